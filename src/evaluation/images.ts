import { SpooledImages } from '#evaluation/contact-sheets/spool';
import { warn as warnUser } from '#platform/system';
import { type Communicator, gatherOnFirst, SINGLE } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import { loadUnconditionalImageGeneration } from '../pipelines/images.ts';
import { type ChosenMetric, resolveOptions } from './chosen-metrics.ts';
import { writeImageSheets } from './contact-sheets/image-sheets.ts';
import { findSelection, prepareContactSheets } from './contact-sheets/record.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import { type ResolveExtractorOptions, resolveExtractor } from './extractors/registry.ts';
import { probeExtractor } from './feature-pass.ts';
import { type Extractors, type FoundForms, formsOf, loadExtractors, type Side } from './image-features.ts';
import {
  type EvaluationImages,
  featureImages,
  openImages,
  randomPart,
  type SetPart,
  type Share,
} from './image-sources.ts';
import type { EvaluationInput } from './inputs.ts';
import {
  DEFAULT_SAMPLES,
  type EvaluateOptions,
  type EvaluateSettings,
  type EvaluationReport,
  reportedExtractor,
} from './options.ts';
import { type JoinedSides, joinParts, reportOf } from './parts/merge.ts';
import { type EvaluationPart, type PartRecord, parsePart, partBytes } from './parts/part.ts';

/** Marks a resource to be disposed of at the end, and returns it. */
type Own = <Resource extends { dispose(): Promise<void> }>(resource: Resource) => Resource;

/** An evaluation of images, before anything is opened. */
export interface ImageEvaluation {
  readonly possible: readonly ChosenMetric[];
  readonly real: EvaluationInput;
  readonly fake: EvaluationInput;
  readonly settings: EvaluateSettings;
  readonly options: EvaluateOptions;
  /** Extractors that are loaded already, by their names. */
  readonly kept: ReadonlyMap<string, FeatureExtractor>;
}

/**
 * `evaluate` for images, on one side or on both.
 *
 * @param ranks the processes that share the images.
 * @returns undefined on all ranks but the first, which has what the others found.
 */
export function evaluateImages(
  evaluation: ImageEvaluation,
  ranks: Communicator,
): Promise<EvaluationReport | undefined> {
  const { settings, options } = evaluation;
  const share = [ranks.rank + 1, ranks.size] as const;
  return withPart(evaluation, { ranks, share }, async ({ part, keep, real, fake, channels }) => {
    const parts = await partsOf(ranks, part);
    if (!parts) return undefined;
    const joined = joinParts(parts);
    await keep(joined.statistics);
    const report = await reportOf(part, joined, options);
    const folder = settings.contact_sheets;
    if (folder === undefined || !real.images || !fake.images) return report;
    const found = await findSelection(joined.chosen, joined.side('real', 0), joined.side('fake', 0), options);
    const images = { real: real.images, fake: fake.images };
    const { signal } = options;
    return {
      ...report,
      contact_sheets: await writeImageSheets({ folder, report, ...found, ...images, channels, signal }),
    };
  });
}

/** The share of one of several processes. @param ofReal what is known of the real images; it is filled. */
export function partOfImages(evaluation: ImageEvaluation, share: Share, ofReal: FoundForms): Promise<EvaluationPart> {
  return withPart(evaluation, { ranks: SINGLE, share, ofReal }, async ({ part }) => part);
}

/** What all ranks found, on the first of them. */
async function partsOf(ranks: Communicator, own: EvaluationPart): Promise<EvaluationPart[] | undefined> {
  if (ranks.size === 1) return [own];
  const all = await gatherOnFirst(ranks, partBytes(own));
  return all && Promise.all(all.map((bytes, rank) => parsePart(bytes, `what rank ${rank} found`)));
}

/** What a process found, and what it was found in, which is open until `use` has ended. */
interface TakenPart {
  readonly part: EvaluationPart;
  /** Keeps the statistics of real images, of which `statistics` has those of all images. */
  keep(statistics: JoinedSides['statistics']): Promise<void>;
  readonly real: Side;
  readonly fake: Side;
  readonly channels: 1 | 3;
}

async function withPart<Result>(
  { possible, real: realInput, fake: fakeInput, settings, options, kept }: ImageEvaluation,
  {
    ranks,
    share,
    ofReal: known = {},
  }: { readonly ranks: Communicator; readonly share: Share; readonly ofReal?: FoundForms },
  use: (taken: TakenPart) => Promise<Result>,
): Promise<Result> {
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
    const comparison = { channels, extractors, settings, options, ranks, share };
    const ofReal = known.forms ?? (await formsOf('real', real, comparison));
    known.forms = ofReal;
    const ofFake = await formsOf('fake', fake, comparison);
    const record: PartRecord = {
      version: 1,
      share,
      whole: [...ofReal.whole, ...ofFake.whole],
      of: comparedBy(chosen, extractors, real, fake, settings, options),
    };
    const found = { record, forms: new Map([...ofReal.forms, ...ofFake.forms]) };
    return await use({ part: found, keep: ofReal.keep, real, fake, channels });
  } finally {
    for (const resource of opened.reverse()) await resource.dispose();
  }
}

/** What all processes of an evaluation have alike. */
function comparedBy(
  chosen: readonly ChosenMetric[],
  { groups, own, logits, features }: Extractors,
  real: Side,
  fake: Side,
  { seed, batch_size }: EvaluateSettings,
  { generation }: EvaluateOptions,
): PartRecord['of'] {
  const all = [...groups.keys()];
  const given = ([, value]: [string, unknown]) => value !== undefined;
  return {
    metrics: chosen.map(({ name, options }) => ({
      name,
      options: Object.fromEntries(Object.entries(options).filter(given)) as Record<string, number | string | boolean>,
    })),
    seed,
    real: evaluatedSet(real),
    fake: evaluatedSet(fake),
    images: {
      real: real.images?.fingerprint ?? '',
      // Not every scheduler is JSON.
      fake: fake.images?.fingerprint ?? JSON.stringify({ ...plainGeneration(generation), batch_size }),
    },
    extractors: all.map(reportedExtractor),
    own: Object.fromEntries([...own].map(([metric, extractor]) => [metric, all.indexOf(extractor)])),
    ...(logits ? { logits: reportedExtractor(logits) } : {}),
    ...(features.caveat === undefined ? {} : { caveat: features.caveat }),
  };
}

/** What is JSON of it: not every scheduler is, and no condition but a path; of a set it is the fingerprint. */
function plainGeneration({ scheduler: _, condition, ...generation }: NonNullable<EvaluateOptions['generation']> = {}) {
  if (typeof condition === 'string' || condition === undefined) return { ...generation, condition };
  return { ...generation, condition: 'fingerprint' in condition ? condition.fingerprint : null };
}

function evaluatedSet({ name, count, images }: Side) {
  const skipped = images?.skipped.map(({ source, reason }) => ({ source, reason })) ?? [];
  return { name, ...(count === undefined ? {} : { count }), ...(skipped.length > 0 ? { skipped } : {}) };
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
  const [channels = 1, height = 1, width = 1] = draw.imageShape;
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
