import { SpooledImages } from '#evaluation/contact-sheets/spool';
import { warn as warnUser } from '#platform/system';
import type { Communicator } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import { loadUnconditionalImageGeneration } from '../pipelines/images.ts';
import { type ChosenMetric, computeMetrics, reportedOptions, resolveOptions } from './chosen-metrics.ts';
import { writeImageSheets } from './contact-sheets/image-sheets.ts';
import { findSelection, prepareContactSheets } from './contact-sheets/record.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import { type ResolveExtractorOptions, resolveExtractor } from './extractors/registry.ts';
import { probeExtractor } from './feature-pass.ts';
import { type Extractors, loadExtractors, type Side, sideOf, sidesOf } from './image-features.ts';
import { type EvaluationImages, featureImages, openImages, randomPart, type SetPart } from './image-sources.ts';
import type { EvaluationInput } from './inputs.ts';
import {
  DEFAULT_SAMPLES,
  type EvaluatedSet,
  type EvaluateOptions,
  type EvaluateSettings,
  type EvaluationReport,
  type ReportedExtractor,
  reportedExtractor,
} from './options.ts';

/** Marks a resource to be disposed of at the end, and returns it. */
type Own = <Resource extends { dispose(): Promise<void> }>(resource: Resource) => Resource;

/**
 * `evaluate` for images, on one side or on both.
 *
 * @param kept extractors that are loaded already, by their names.
 * @param ranks the processes that share the images.
 */
export async function evaluateImages(
  possible: readonly ChosenMetric[],
  realInput: EvaluationInput,
  fakeInput: EvaluationInput,
  settings: EvaluateSettings,
  options: EvaluateOptions,
  kept: ReadonlyMap<string, FeatureExtractor>,
  ranks: Communicator,
): Promise<EvaluationReport> {
  const opened: { dispose(): Promise<void> }[] = [];
  const own: Own = (resource) => {
    opened.push(resource);
    return resource;
  };
  try {
    const { split, fake_split, dataset_config_name: config, dataset_revision: revision } = settings;
    const part = { split, config, revision };
    const real = await openSide(realInput, settings, options, own, settings.num_real, part);
    const fake = await openSide(fakeInput, settings, options, own, settings.num_samples, { split: fake_split });
    const counts = { real: real.count, fake: fake.count };
    const chosen = resolveOptions(possible, counts);
    const folder = settings.contact_sheets;
    if (folder !== undefined) await prepareContactSheets(folder, chosen, counts);
    const channels: 1 | 3 = [real, fake].every(({ images }) => (images?.channels ?? 1) === 1) ? 1 : 3;
    const load = async (spec: string, given: ResolveExtractorOptions) =>
      kept.get(spec) ?? own(await resolveExtractor(spec, given));
    const extractors = await loadExtractors(chosen, real.images ?? fake.images, channels, settings, options, load);
    // First of all, because an extractor may refuse the size of the generated images.
    if (fake.images)
      for (const extractor of extractors.groups.keys()) await probeExtractor(extractor, fake.images, channels);
    const comparison = { channels, extractors, settings, options, ranks };
    const realSides = await sidesOf('real', real, comparison);
    const fakeSides = await sidesOf('fake', fake, comparison);
    const sides = (one: ChosenMetric) => {
      const extractor = extractors.own.get(one.name) ?? extractors.features;
      return { real: sideOf(realSides, extractor), fake: sideOf(fakeSides, extractor) };
    };
    const { on_progress, signal } = options;
    const { caveat } = extractors.features;
    const report: EvaluationReport = {
      metrics: await computeMetrics(chosen, sides, { seed: settings.seed, on_progress, signal }),
      real: evaluatedSet(real),
      fake: evaluatedSet(fake),
      extractor: reportedExtractor(extractors.features),
      ...(extractors.own.size > 0 ? { metric_extractors: reportedOwn(extractors.own) } : {}),
      ...(extractors.logits ? { logits_extractor: reportedExtractor(extractors.logits) } : {}),
      settings: { seed: settings.seed, ...reportedOptions(chosen) },
      ...(caveat === undefined ? {} : { warnings: [caveat] }),
    };
    if (folder === undefined || !real.images || !fake.images) return report;
    const [realSide, fakeSide] = [sideOf(realSides, extractors.features), sideOf(fakeSides, extractors.features)];
    const found = await findSelection(chosen, realSide, fakeSide, options);
    const images = { real: real.images, fake: fake.images };
    return {
      ...report,
      contact_sheets: await writeImageSheets({ folder, report, ...found, ...images, channels, signal }),
    };
  } finally {
    for (const resource of opened.reverse()) await resource.dispose();
  }
}

/** Metrics that are defined for an extractor, with that. */
function reportedOwn(own: Extractors['own']): Record<string, ReportedExtractor> {
  return Object.fromEntries([...own].map(([metric, extractor]) => [metric, reportedExtractor(extractor)]));
}

function evaluatedSet({ name, count, images }: Side): EvaluatedSet {
  return { name, count, ...(images?.skipped.length ? { skipped: images.skipped } : {}) };
}

async function openSide(
  input: EvaluationInput,
  settings: EvaluateSettings,
  options: EvaluateOptions,
  own: Own,
  wanted: number | undefined,
  part: SetPart,
): Promise<Side> {
  if (input.kind === 'statistics') return { ...input, count: input.statistics.count };
  if (input.kind === 'image-pipeline') return openPipeline(input.source, settings, options, own, wanted);
  if (input.kind !== 'images') throw new InvalidArgumentError(`one side is images, but the other is ${input.kind}`);
  const { resolution, cache_dir: cacheDir, strict } = settings;
  const select = randomPart(wanted, settings.seed);
  const { signal, on_warning: warn = warnUser } = options;
  const images = await openImages(input.source, { ...part, select, resolution, cacheDir, strict, warn, signal });
  return { name: images.name, count: images.count, images };
}

async function openPipeline(
  source: Extract<EvaluationInput, { kind: 'image-pipeline' }>['source'],
  { device, device_id, seed, contact_sheets }: EvaluateSettings,
  { generation }: EvaluateOptions,
  own: Own,
  count = DEFAULT_SAMPLES,
): Promise<Side> {
  const isName = typeof source === 'string';
  const draw = isName ? own(await loadUnconditionalImageGeneration(source, { device, device_id })) : source;
  const [channels = 1, height = 1, width = 1] = draw.model.sampleShape;
  if (![1, 3, 4].includes(channels))
    throw new InvalidArgumentError(
      `${isName ? source : 'the pipeline'} draws samples of ${channels} channels: metrics of images need 1, 3 or 4`,
    );
  const images: EvaluationImages = {
    name: isName ? source : 'pipeline',
    count,
    height,
    width,
    channels: channels === 1 ? 1 : 3,
    skipped: [],
    fingerprint: undefined,
    async *batches(batch_size, signal, share) {
      for await (const bytes of draw.batches({ ...generation, count, batch_size, seed, signal, share }))
        yield featureImages(bytes);
    },
  };
  if (contact_sheets === undefined) return { name: images.name, count, images };
  return { name: images.name, count, images: own(await SpooledImages.create(images)).images };
}
