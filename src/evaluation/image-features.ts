import { InvalidArgumentError } from '../errors.ts';
import type { GaussianStatistics } from '../metrics/frechet/feature-statistics.ts';
import { type ComparedFeatures, keepsFeatures } from './compare-features.ts';
import type { EvaluateOptions, EvaluateSettings, MetricName } from './evaluate-options.ts';
import type { EvaluationImages } from './evaluation-images.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import { type FeatureUse, passOver, probeExtractor } from './feature-pass.ts';
import { StatisticsCache, statisticsKey } from './statistics-cache.ts';

/** One side of an evaluation: images, or statistics alone. */
export interface Side {
  readonly name: string;
  readonly count: number | undefined;
  readonly images?: EvaluationImages | undefined;
  readonly statistics?: GaussianStatistics | undefined;
  dispose(): Promise<void>;
}

export interface Extractors {
  readonly features: FeatureExtractor;
  /** Where the Inception Score is wanted. */
  readonly logits: FeatureExtractor | undefined;
}

export interface ImageComparison {
  readonly metrics: readonly MetricName[];
  /** Of both sides, after grey was made RGB where only one of them is grey. */
  readonly channels: 1 | 3;
  readonly extractors: Extractors;
  readonly settings: EvaluateSettings;
  readonly options: EvaluateOptions;
}

/** What the metrics need of the real side; its statistics are kept for the next evaluation. */
export async function featuresOfReal(side: Side, comparison: ImageComparison): Promise<ComparedFeatures> {
  const { metrics, channels, extractors, settings, options } = comparison;
  const { features: extractor } = extractors;
  const { images } = side;
  if (!images) return { statistics: fittingStatistics(side, extractor) };
  const keepsAll = metrics.some(keepsFeatures);
  if (!keepsAll && !metrics.includes('fid')) return {};

  const probe = await probeExtractor(extractor, images, channels);
  const cache = new StatisticsCache(settings.cache_dir, options.on_warning ?? process.emitWarning);
  const key =
    images.fingerprint === undefined
      ? undefined
      : statisticsKey(`${images.fingerprint} ${channels}`, extractor, probe);
  const wanted = { dims: extractor.dims, count: images.count };
  const cached = key && metrics.includes('fid') ? await cache.read(key, wanted) : undefined;
  if (cached && !keepsAll) return { statistics: cached };

  const statistics = metrics.includes('fid') && !cached;
  const [result] = await pass('real', images, [{ extractor, statistics, features: keepsAll }], comparison);
  if (key && result?.statistics) await cache.write(key, result.statistics);
  return { features: result?.features, statistics: cached ?? result?.statistics };
}

/** What the metrics need of the generated side, from one pass. */
export async function featuresOfFake(side: Side, comparison: ImageComparison): Promise<ComparedFeatures> {
  const { metrics, extractors } = comparison;
  const { images } = side;
  if (!images) return { statistics: fittingStatistics(side, extractors.features) };
  const uses: FeatureUse[] = [
    {
      extractor: extractors.features,
      statistics: metrics.includes('fid'),
      features: metrics.some(keepsFeatures),
    },
    ...(extractors.logits ? [{ extractor: extractors.logits, statistics: false, features: true }] : []),
  ];
  const [result, logits] = await pass('fake', images, uses, comparison);
  return { ...result, logits: logits?.features };
}

function pass(
  stage: 'real' | 'fake',
  images: EvaluationImages,
  uses: readonly FeatureUse[],
  { channels, settings, options }: ImageComparison,
) {
  return passOver(images, uses, {
    batchSize: settings.batch_size,
    channels,
    onProgress: (fraction) => options.on_progress?.(fraction, stage),
    signal: options.signal,
  });
}

function fittingStatistics({ name, statistics }: Side, extractor: FeatureExtractor): GaussianStatistics {
  if (statistics?.dims === extractor.dims) return statistics;
  throw new InvalidArgumentError(
    `${name} has statistics of ${statistics?.dims} dimensions, but the extractor ${extractor.name} gives ${extractor.dims}: they are of another extractor`,
  );
}
