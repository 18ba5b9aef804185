import { warn as warnUser } from '#platform/system';
import { type Communicator, gatherFloats } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { DownloadProgress } from '../hub/hub-options.ts';
import type { GaussianStatistics } from '../metrics/frechet/statistics.ts';
import { type ChosenMetric, neededForms } from './chosen-metrics.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import type { ResolveExtractorOptions } from './extractors/registry.ts';
import { passOver, probeExtractor } from './feature-pass.ts';
import type { EvaluationImages, Share } from './image-sources.ts';
import { type EvaluateOptions, type EvaluateSettings, logitsExtractorOf } from './options.ts';
import { formKey, type PartForms, type Role } from './parts/part.ts';
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
  readonly share: Share;
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

/** What a share has of a side, by `formKey`, and what of it is of all images already. */
interface SideForms {
  readonly forms: ReadonlyMap<string, PartForms>;
  readonly whole: readonly string[];
  /** Keeps the statistics of all images for the next evaluation, where they were computed. */
  keep(statistics: (key: string) => GaussianStatistics | undefined): Promise<void>;
}

/** What was found of a side that stays the same from one evaluation to the next. */
export interface FoundForms {
  forms?: SideForms;
}

/** What the metrics need of a share of a side, from one pass over its images. Statistics of stored real images are cached. */
export async function formsOf(
  role: Role,
  { images, ...side }: Side,
  { channels, extractors, settings, options, ranks, share }: ImageComparison,
): Promise<SideForms> {
  const groups = [...extractors.groups].map(([extractor, metrics], index) => ({
    extractor,
    key: formKey(role, index),
    needed: neededForms(metrics, role),
  }));
  const forms = new Map<string, PartForms>();
  const whole: string[] = [];
  const entries = new Map<string, CachedStatistics>();
  const plans = [];
  for (const { extractor, key, needed } of groups) {
    const needsStatistics = needed.has('statistics');
    let found: GaussianStatistics | undefined;
    if (!images && needsStatistics) found = fittingStatistics(side, extractor);
    if (images && role === 'real' && (needed.has('features') || needsStatistics)) {
      const entry = await cacheEntry(images, extractor, channels, settings, options);
      const cached = needsStatistics ? await entry?.read() : undefined;
      // Machines have caches of their own, and the ranks take part in a pass together.
      const isFoundByAll = (await gatherFloats(ranks, Float32Array.of(cached ? 1 : 0))).every((flag) => flag === 1);
      if (isFoundByAll) found = cached;
      else if (entry) entries.set(key, entry);
    }
    if (found) whole.push(key);
    forms.set(key, { statistics: found });
    plans.push({ extractor, key, statistics: needsStatistics && !found, features: needed.has('features') });
  }
  const { logits } = extractors;
  if (logits && groups.some(({ needed }) => needed.has('logits')))
    plans.push({ extractor: logits, key: formKey(role, 'logits'), statistics: false, features: true });
  const isNeeded = images && plans.some(({ statistics, features }) => statistics || features);
  const results = isNeeded
    ? await passOver(images, plans, {
        batchSize: settings.batch_size,
        channels,
        onProgress: (fraction) => options.on_progress?.(fraction, role),
        signal: options.signal,
        share,
      })
    : [];
  for (const [i, { key }] of plans.entries()) {
    const { statistics = forms.get(key)?.statistics, features } = results[i] ?? {};
    forms.set(key, { statistics, features });
  }
  return {
    forms,
    whole,
    keep: async (statisticsOf) => {
      for (const [key, entry] of entries) {
        const statistics = statisticsOf(key);
        if (statistics) await entry.write(statistics);
      }
    },
  };
}

/** The cache entry of stored images' statistics; undefined for images that are drawn from a model. */
async function cacheEntry(
  images: EvaluationImages,
  extractor: FeatureExtractor,
  channels: 1 | 3,
  settings: EvaluateSettings,
  options: EvaluateOptions,
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
