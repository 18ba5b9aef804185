import { createHash } from 'node:crypto';
import { InvalidArgumentError } from '../errors.ts';
import { FeatureStatistics, type GaussianStatistics } from '../metrics/frechet/feature-statistics.ts';
import { frechetDistance } from '../metrics/frechet/fid.ts';
import { checkSizes, compareFeatures, keepsFeatures } from './compare-features.ts';
import { evaluateImages } from './evaluate-images.ts';
import { checkedSettings, type EvaluateOptions, type EvaluateSettings } from './evaluate-options.ts';
import { type EvaluationInput, identify } from './evaluation-input.ts';
import type { EvaluationReport } from './evaluation-report.ts';
import { loadPointPair } from './point-sets.ts';

/**
 * Measures how well generated samples match real ones.
 *
 * Images, on either side: anything `loadImages` reads, in its own size (or `resolution`), or a loaded `ImageSet`; and as
 * `fake` a saved pipeline folder or Hub id, or a loaded pipeline. They are compared by the features of `extractor`, taken
 * batch by batch; only kid and prdc keep features, count x dims x 4 bytes a side. `.npz` files of statistics, as of
 * pytorch-fid, stand for either side in 'fid'. Points are compared as they are.
 *
 * @throws {InvalidArgumentError} for wrong options, sides that do not fit together, sets that are too small, or an
 * extractor that does not give one vector an image.
 * @throws {DatasetError} for images that cannot be read or are of different sizes.
 * @throws {ExtractorNotFoundError} when the extractor's weights are not there: which file to fetch, and where to put it.
 * @throws {StatisticsFileError} for an `.npz` with wrong keys, shapes or values.
 * @throws `signal.reason` when the signal aborts.
 *
 * @example
 * const report = await evaluate({
 *   real: './photos', fake: './runs/photos/pipeline', metrics: ['fid', 'prdc'], extractor: 'inception', num_samples: 10_000,
 * });
 * console.log(report.metrics.fid, report.extractor.checksum);
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluationReport> {
  const settings = checkedSettings(options);
  const real = await identify('real', options.real);
  const fake = await identify('fake', options.fake);
  options.signal?.throwIfAborted();
  if (real.kind === 'statistics' && fake.kind === 'statistics')
    return evaluateStatistics(real, fake, settings);
  const isOfPoints = [real, fake].some(({ kind }) => kind === 'points' || kind === 'point-pipeline');
  return isOfPoints
    ? evaluatePoints(real, fake, settings, options)
    : evaluateImages(real, fake, settings, options);
}

type StatisticsInput = Extract<EvaluationInput, { kind: 'statistics' }>;

function evaluateStatistics(
  real: StatisticsInput,
  fake: StatisticsInput,
  { metrics = ['fid'] }: EvaluateSettings,
): EvaluationReport {
  const other = metrics.find((metric) => metric !== 'fid');
  if (other)
    throw new InvalidArgumentError(
      `'${other}' needs samples, and both sides are statistics: they give 'fid' only`,
    );
  return {
    metrics: { fid: frechetDistance(real.statistics, fake.statistics) },
    real: { name: real.name, count: real.statistics.count },
    fake: { name: fake.name, count: fake.statistics.count },
    extractor: { name: 'unknown: statistics of files', checksum: '', dims: real.statistics.dims },
    settings: {},
  };
}

async function evaluatePoints(
  realInput: EvaluationInput,
  fakeInput: EvaluationInput,
  settings: EvaluateSettings,
  options: EvaluateOptions,
): Promise<EvaluationReport> {
  const { metrics = ['prdc'], nearest_k, seed } = settings;
  if (metrics.includes('is'))
    throw new InvalidArgumentError("'is' needs class logits of images; points have none");
  const { real, fake } = await loadPointPair(realInput, fakeInput, settings, options);
  checkSizes(metrics, real.count, fake.count, settings);
  if (real.dims !== fake.dims)
    throw new InvalidArgumentError(
      `real has points of ${real.dims} dimensions and fake of ${fake.dims}; they must be the same.`,
    );
  const sides = [real, fake].map((points) => ({
    features: points,
    statistics: metrics.includes('fid') ? statisticsOf(points) : undefined,
  }));
  const [realSide = {}, fakeSide = {}] = sides;
  return {
    metrics: await compareFeatures(metrics, realSide, fakeSide, settings, options),
    real: { name: real.name, count: real.count },
    fake: { name: fake.name, count: fake.count },
    extractor: {
      name: 'coordinates',
      checksum: createHash('sha256').update('coordinates').digest('hex'),
      dims: real.dims,
    },
    settings: metrics.some(keepsFeatures) ? { nearest_k, seed } : { seed },
  };
}

function statisticsOf({ data, dims }: { data: Float32Array; dims: number }): GaussianStatistics {
  const statistics = new FeatureStatistics(dims);
  statistics.add(data);
  return statistics.gaussian();
}
