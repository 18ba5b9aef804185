import { warn as warnUser } from '#platform/system';
import { type Communicator, gatherFloats } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { DownloadProgress } from '../hub/hub-options.ts';
import type { GaussianStatistics } from '../metrics/frechet/statistics.ts';
import type { MetricSide } from '../metrics/metric.ts';
import { type ChosenMetric, neededForms, preparedSide } from './chosen-metrics.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import type { ResolveExtractorOptions } from './extractors/registry.ts';
import { passOver, probeExtractor } from './feature-pass.ts';
import type { EvaluationImages } from './image-sources.ts';
import { type EvaluateOptions, type EvaluateSettings, logitsExtractorOf } from './options.ts';
import { CachedStatistics } from './statistics-cache.ts';

/** One side of an evaluation: images, or statistics alone. */
export interface Side {
  readonly name: string;
  readonly count: number | undefined;
  readonly images?: EvaluationImages | undefined;
  readonly statistics?: GaussianStatistics | undefined;
}

export interface Extractors {
  /** The evaluation's; where every metric is defined for an extractor, that of the first. */
  readonly features: FeatureExtractor;
  /** Of the metrics that are defined for an extractor, by the metric's name. */
  readonly own: ReadonlyMap<string, FeatureExtractor>;
  /** The metrics that read the features of each. */
  readonly groups: ReadonlyMap<FeatureExtractor, readonly ChosenMetric[]>;
  /** Where the Inception Score is wanted. */
  readonly logits: FeatureExtractor | undefined;
}

interface ImageComparison {
  /** Of both sides, after grey was made RGB where only one of them is grey. */
  readonly channels: 1 | 3;
  readonly extractors: Extractors;
  readonly settings: EvaluateSettings;
  readonly options: EvaluateOptions;
  readonly ranks: Communicator;
}

/**
 * The extractors that the metrics need, each once.
 *
 * @param load loads one by its name.
 */
export async function loadExtractors(
  chosen: readonly ChosenMetric[],
  images: EvaluationImages | undefined,
  channels: 1 | 3,
  { device, device_id, batch_size }: EvaluateSettings,
  options: EvaluateOptions,
  load: (spec: string, options: ResolveExtractorOptions) => Promise<FeatureExtractor>,
): Promise<Extractors> {
  const image_shape = images && { height: images.height, width: images.width, channels };
  const { on_progress, signal } = options;
  const progress_callback = ({ progress = 0 }: DownloadProgress) => on_progress?.(progress / 100, 'weights');
  const common = {
    batch_size,
    progress_callback,
    signal,
    ...options.extractor_options,
    device,
    device_id,
    image_shape,
  };
  const loaded = new Map<string, FeatureExtractor>();
  const extractorOf = async (given: FeatureExtractor | string, how: ResolveExtractorOptions = common) => {
    if (typeof given !== 'string') return given;
    const extractor = loaded.get(given) ?? (await load(given, how));
    loaded.set(given, extractor);
    return extractor;
  };
  const groups = new Map<FeatureExtractor, ChosenMetric[]>();
  const own = new Map<string, FeatureExtractor>();
  const others = chosen.filter(({ metric }) => metric.extractor === undefined);
  const needed = neededForms(others, 'real', 'fake');
  const logits = needed.has('logits') ? await extractorOf(logitsSpec(others, options)) : undefined;
  const isOfLogits = logits !== undefined && needed.size === 1;
  if (others.length > 0) groups.set(isOfLogits ? logits : await extractorOf(options.extractor ?? 'inception'), others);
  for (const one of chosen) {
    if (one.metric.extractor === undefined) continue;
    // A metric's own extractor has its own preprocessing.
    const extractor = await extractorOf(one.metric.extractor, { ...common, preprocessing: undefined });
    own.set(one.name, extractor);
    groups.set(extractor, [...(groups.get(extractor) ?? []), one]);
  }
  const [features] = groups.keys();
  if (!features) throw new InvalidArgumentError('there are no metrics to compute');
  return { features, own, groups, logits };
}

/** @throws {InvalidArgumentError} where nothing gives the logits that a metric needs. */
function logitsSpec(chosen: readonly ChosenMetric[], options: EvaluateOptions): FeatureExtractor | string {
  const given = logitsExtractorOf(options);
  if (given !== undefined) return given;
  const first = chosen.find((one) => neededForms([one], 'real', 'fake').has('logits'));
  throw new InvalidArgumentError(
    `'${first?.name}' needs class logits: give logits_extractor, such as 'inception:logits_unbiased' or 'model.onnx:logits'`,
  );
}

/** A side by the extractor that its features are of. */
type Sides = ReadonlyMap<FeatureExtractor, MetricSide>;

export function sideOf(sides: Sides, extractor: FeatureExtractor): MetricSide {
  const side = sides.get(extractor);
  if (side) return side;
  throw new InvalidArgumentError(`no features were taken with the extractor ${extractor.name}`);
}

/** What the metrics need of a side, from one pass over its images. Statistics of stored real images are cached. */
export async function sidesOf(
  role: 'real' | 'fake',
  { images, ...side }: Side,
  comparison: ImageComparison,
): Promise<Sides> {
  const { channels, extractors, settings, options, ranks } = comparison;
  const groups = [...extractors.groups].map(([extractor, metrics]) => ({
    extractor,
    needed: neededForms(metrics, role),
  }));
  if (!images)
    return new Map(
      groups.map(({ extractor, needed }) => {
        const statistics = needed.has('statistics') ? fittingStatistics(side, extractor) : undefined;
        return [extractor, preparedSide(role, { statistics })];
      }),
    );
  const plans = [];
  for (const { extractor, needed } of groups) {
    const needsFeatures = needed.has('features') || needed.has('statistics');
    const entry = role === 'real' && needsFeatures ? await cacheEntry(images, extractor, comparison) : undefined;
    const found = needed.has('statistics') ? await entry?.read() : undefined;
    // Machines have caches of their own, and the ranks take part in a pass together.
    const isFoundByAll = (await gatherFloats(ranks, Float32Array.of(found ? 1 : 0))).every((flag) => flag === 1);
    const cached = isFoundByAll ? found : undefined;
    plans.push({
      extractor,
      entry,
      cached,
      statistics: needed.has('statistics') && !cached,
      features: needed.has('features'),
    });
  }
  const needsLogits = groups.some(({ needed }) => needed.has('logits'));
  const { logits: logitsExtractor } = extractors;
  const uses = logitsExtractor
    ? [...plans, { extractor: logitsExtractor, statistics: false, features: needsLogits }]
    : plans;
  const isNeeded = uses.some(({ statistics, features }) => statistics || features);
  const results = isNeeded
    ? await passOver(images, uses, {
        batchSize: settings.batch_size,
        channels,
        onProgress: (fraction) => options.on_progress?.(fraction, role),
        signal: options.signal,
        ranks,
      })
    : [];
  const logits = results[plans.length]?.features;
  const sides = new Map<FeatureExtractor, MetricSide>();
  for (const [i, { extractor, entry, cached }] of plans.entries()) {
    const { statistics, features } = results[i] ?? {};
    if (statistics && ranks.rank === 0) await entry?.write(statistics);
    sides.set(extractor, preparedSide(role, { features, statistics: cached ?? statistics, logits }));
  }
  return sides;
}

/** The cache entry of stored images' statistics; undefined for images that are drawn from a model. */
async function cacheEntry(
  images: EvaluationImages,
  extractor: FeatureExtractor,
  { channels, settings, options }: ImageComparison,
): Promise<CachedStatistics | undefined> {
  const probe = await probeExtractor(extractor, images, channels);
  if (images.fingerprint === undefined) return undefined;
  const fingerprint = `${images.fingerprint} ${channels}`;
  const warn = options.on_warning ?? warnUser;
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
