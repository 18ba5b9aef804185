import { InvalidArgumentError } from '../errors.ts';
import type { DownloadProgress } from '../hub/repository.ts';
import type { GaussianStatistics } from '../metrics/frechet/statistics.ts';
import type { MetricSide } from '../metrics/metric.ts';
import { loadUnconditionalImageGeneration } from '../pipelines/images.ts';
import {
  type ChosenMetric,
  computeMetrics,
  neededForms,
  preparedSide,
  reportedOptions,
  resolveOptions,
} from './chosen-metrics.ts';
import { writeImageSheets } from './contact-sheets/image-sheets.ts';
import { findSelection, prepareContactSheets } from './contact-sheets/record.ts';
import { SpooledImages } from './contact-sheets/spool.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import { resolveExtractor } from './extractors/registry.ts';
import { passOver, probeExtractor } from './feature-pass.ts';
import { type EvaluationImages, featureImages, openImages, randomPart } from './image-sources.ts';
import type { EvaluationInput } from './inputs.ts';
import {
  DEFAULT_SAMPLES,
  type EvaluatedSet,
  type EvaluateOptions,
  type EvaluateSettings,
  type EvaluationReport,
  logitsExtractorOf,
  reportedExtractor,
} from './options.ts';
import { CachedStatistics } from './statistics-cache.ts';

/** One side of an evaluation: images, or statistics alone. */
interface Side {
  readonly name: string;
  readonly count: number | undefined;
  readonly images?: EvaluationImages | undefined;
  readonly statistics?: GaussianStatistics | undefined;
}

/** Marks a resource to be disposed of at the end, and returns it. */
type Own = <Resource extends { dispose(): Promise<void> }>(resource: Resource) => Resource;

interface Extractors {
  readonly features: FeatureExtractor;
  /** Where the Inception Score is wanted. */
  readonly logits: FeatureExtractor | undefined;
}

interface ImageComparison {
  readonly chosen: readonly ChosenMetric[];
  /** Of both sides, after grey was made RGB where only one of them is grey. */
  readonly channels: 1 | 3;
  readonly extractors: Extractors;
  readonly settings: EvaluateSettings;
  readonly options: EvaluateOptions;
}

/** `evaluate` for images, on one side or on both. */
export async function evaluateImages(
  possible: readonly ChosenMetric[],
  realInput: EvaluationInput,
  fakeInput: EvaluationInput,
  settings: EvaluateSettings,
  options: EvaluateOptions,
): Promise<EvaluationReport> {
  const opened: { dispose(): Promise<void> }[] = [];
  const own: Own = (resource) => {
    opened.push(resource);
    return resource;
  };
  try {
    const real = await openSide(realInput, settings, options, own, settings.num_real, settings.split);
    const fake = await openSide(fakeInput, settings, options, own, settings.num_samples, settings.fake_split);
    const counts = { real: real.count, fake: fake.count };
    const chosen = resolveOptions(possible, counts);
    const folder = settings.contact_sheets;
    if (folder !== undefined) await prepareContactSheets(folder, chosen, counts);
    const channels: 1 | 3 = [real, fake].every(({ images }) => (images?.channels ?? 1) === 1) ? 1 : 3;
    const extractors = await loadExtractors(chosen, real.images ?? fake.images, channels, settings, options, own);
    // First of all, because an extractor may refuse the size of the generated images.
    if (fake.images) await probeExtractor(extractors.features, fake.images, channels);
    const comparison = { chosen, channels, extractors, settings, options };
    const realSide = await featuresOf('real', real, comparison);
    const fakeSide = await featuresOf('fake', fake, comparison);
    const { on_progress, signal } = options;
    const { caveat } = extractors.features;
    const report: EvaluationReport = {
      metrics: await computeMetrics(chosen, realSide, fakeSide, { seed: settings.seed, on_progress, signal }),
      real: evaluatedSet(real),
      fake: evaluatedSet(fake),
      extractor: reportedExtractor(extractors.features),
      ...(extractors.logits ? { logits_extractor: reportedExtractor(extractors.logits) } : {}),
      settings: { seed: settings.seed, ...reportedOptions(chosen) },
      ...(caveat === undefined ? {} : { warnings: [caveat] }),
    };
    if (folder === undefined || !real.images || !fake.images) return report;
    const found = await findSelection(chosen, realSide, fakeSide, options);
    const sides = { real: real.images, fake: fake.images };
    return {
      ...report,
      contact_sheets: await writeImageSheets({ folder, report, ...found, ...sides, channels, signal }),
    };
  } finally {
    for (const resource of opened.reverse()) await resource.dispose();
  }
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
  split: string | undefined,
): Promise<Side> {
  if (input.kind === 'statistics') return { ...input, count: input.statistics.count };
  if (input.kind === 'image-pipeline') return openPipeline(input.source, settings, options, own, wanted);
  if (input.kind !== 'images') throw new InvalidArgumentError(`one side is images, but the other is ${input.kind}`);
  const { resolution, cache_dir: cacheDir, strict } = settings;
  const select = randomPart(wanted, settings.seed);
  const { signal, on_warning: warn = process.emitWarning } = options;
  const images = await openImages(input.source, { select, resolution, cacheDir, split, strict, warn, signal });
  return { name: images.name, count: images.count, images };
}

async function openPipeline(
  source: Extract<EvaluationInput, { kind: 'image-pipeline' }>['source'],
  { device, seed, contact_sheets }: EvaluateSettings,
  { generation }: EvaluateOptions,
  own: Own,
  count = DEFAULT_SAMPLES,
): Promise<Side> {
  const isName = typeof source === 'string';
  const draw = isName ? own(await loadUnconditionalImageGeneration(source, { device })) : source;
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
    async *batches(batch_size, signal) {
      for await (const bytes of draw.batches({ ...generation, count, batch_size, seed, signal }))
        yield featureImages(bytes);
    },
  };
  if (contact_sheets === undefined) return { name: images.name, count, images };
  return { name: images.name, count, images: own(await SpooledImages.create(images)).images };
}

async function loadExtractors(
  chosen: readonly ChosenMetric[],
  images: EvaluationImages | undefined,
  channels: 1 | 3,
  { device, batch_size }: EvaluateSettings,
  options: EvaluateOptions,
  own: Own,
): Promise<Extractors> {
  const image_shape = images && { height: images.height, width: images.width, channels };
  const { on_progress, signal } = options;
  const progress_callback = ({ progress = 0 }: DownloadProgress) => on_progress?.(progress / 100, 'weights');
  const extractorOptions = { batch_size, progress_callback, signal, ...options.extractor_options, device, image_shape };
  const load = async (given: FeatureExtractor | string) =>
    typeof given === 'string' ? own(await resolveExtractor(given, extractorOptions)) : given;
  const needed = neededForms(chosen, 'real', 'fake');
  if (!needed.has('logits')) return { features: await load(options.extractor ?? 'inception'), logits: undefined };
  const given = logitsExtractorOf(options);
  if (given === undefined) {
    const first = chosen.find((one) => neededForms([one], 'real', 'fake').has('logits'));
    throw new InvalidArgumentError(
      `'${first?.name}' needs class logits: give logits_extractor, such as 'inception:logits_unbiased' or 'model.onnx:logits'`,
    );
  }
  const logits = await load(given);
  return { features: needed.size === 1 ? logits : await load(options.extractor ?? 'inception'), logits };
}

/** What the metrics need of a side, from one pass over its images. Statistics of stored real images are cached. */
async function featuresOf(
  role: 'real' | 'fake',
  { images, ...side }: Side,
  comparison: ImageComparison,
): Promise<MetricSide> {
  const { chosen, channels, extractors, settings, options } = comparison;
  const needed = neededForms(chosen, role);
  const extractor = extractors.features;
  if (!images)
    return preparedSide(role, {
      statistics: needed.has('statistics') ? fittingStatistics(side, extractor) : undefined,
    });
  const needsFeatures = needed.has('features') || needed.has('statistics');
  const entry = role === 'real' && needsFeatures ? await cacheEntry(images, comparison) : undefined;
  const cached = needed.has('statistics') ? await entry?.read() : undefined;
  const uses = [
    { extractor, statistics: needed.has('statistics') && !cached, features: needed.has('features') },
    ...(extractors.logits ? [{ extractor: extractors.logits, statistics: false, features: needed.has('logits') }] : []),
  ];
  if (!uses.some(({ statistics, features }) => statistics || features))
    return preparedSide(role, { statistics: cached });
  const [result, logits] = await passOver(images, uses, {
    batchSize: settings.batch_size,
    channels,
    onProgress: (fraction) => options.on_progress?.(fraction, role),
    signal: options.signal,
  });
  if (result?.statistics) await entry?.write(result.statistics);
  return preparedSide(role, {
    features: result?.features,
    statistics: cached ?? result?.statistics,
    logits: logits?.features,
  });
}

/** The cache entry of stored images' statistics; undefined for images that are drawn from a model. */
async function cacheEntry(
  images: EvaluationImages,
  { channels, extractors, settings, options }: ImageComparison,
): Promise<CachedStatistics | undefined> {
  const { features: extractor } = extractors;
  const probe = await probeExtractor(extractor, images, channels);
  if (images.fingerprint === undefined) return undefined;
  const fingerprint = `${images.fingerprint} ${channels}`;
  const warn = options.on_warning ?? process.emitWarning;
  return new CachedStatistics({ fingerprint, count: images.count, extractor, probe }, settings.cache_dir, warn);
}

function fittingStatistics(
  { name, statistics }: Omit<Side, 'images'>,
  extractor: FeatureExtractor,
): GaussianStatistics {
  if (statistics?.dims === extractor.dims) return statistics;
  throw new InvalidArgumentError(
    `${name} has statistics of ${statistics?.dims} dimensions, but the extractor ${extractor.name} gives ${extractor.dims}: they are of another extractor`,
  );
}
