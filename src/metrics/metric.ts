/**
 * What a metric is. `metrics` (registry.ts) knows them by name; `evaluate`, `EvaluationCallback` and the command line take
 * the names, prepare what a metric `needs` of each side, and report what it computes.
 */

import { requireArray, requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { GaussianStatistics } from './frechet/statistics.ts';

/** Points or feature vectors, one a row: `data` is row-major, `count` x `dims`. */
export interface PointCloud {
  /** The values, row by row. */
  readonly data: Float32Array;
  /** Rows. */
  readonly count: number;
  /** Values of a row. */
  readonly dims: number;
}

/** What a metric can need of a side. */
export type SampleForm = 'features' | 'statistics' | 'logits';

/** Real or generated samples, in the forms that the metric's `needs` list. Reading another form throws. */
export interface MetricSide {
  /** The points themselves, or one feature vector for each image. */
  readonly features: PointCloud;
  /** Mean and covariance of the features. A file of statistics has nothing else. */
  readonly statistics: GaussianStatistics;
  /** Class logits of images, one vector each, by the logits extractor. */
  readonly logits: PointCloud;
}

/** The number of samples of each side; undefined while it is not known. */
export interface SampleCounts {
  /** Real samples. */
  readonly real?: number | undefined;
  /** Generated samples. */
  readonly fake?: number | undefined;
}

/** The value of an option of a metric. */
export type MetricOption = number | string | boolean | undefined;
/** The options of a metric, by name. */
export type MetricOptions = Readonly<Record<string, MetricOption>>;

/** The argument of a metric's `compute`. */
export interface MetricInputs<Options> {
  /** The real samples, in the forms that the metric needs. */
  readonly real: MetricSide;
  /** The generated samples, in the forms that the metric needs. */
  readonly fake: MetricSide;
  /** The metric's options, with its defaults for those that were not given. */
  readonly options: Options;
  /** Seed of anything random, an integer of at least 0. Default of `evaluate`: 0. */
  readonly seed: number;
  /** To be called with the finished fraction, 0 to 1; a short computation need not. */
  readonly on_progress: (fraction: number) => void;
  /** Once it aborts, a long computation throws its reason. Default: undefined, there is no signal. */
  readonly signal: AbortSignal | undefined;
}

/**
 * A measure of how well generated samples match real ones.
 *
 * @example
 * const meanDistance: Metric<{ power: number }> = {
 *   kinds: ['images', 'points'],
 *   needs: { real: ['statistics'], fake: ['statistics'] },
 *   options: { power: 2 },
 *   compute({ real, fake, options: { power } }) {
 *     const { mu } = fake.statistics;
 *     return { mean_distance: real.statistics.mu.reduce((sum, x, d) => sum + Math.abs(x - (mu[d] ?? 0)) ** power, 0) };
 *   },
 * };
 * metrics.register('mean-distance', meanDistance);
 * await evaluate({ real, fake, metrics: ['mean-distance'], metric_options: { power: 1 } });
 */
export interface Metric<Options extends object = object> {
  /** The samples it is meaningful for. */
  readonly kinds: readonly ('images' | 'points')[];
  /** The forms it reads of each side; a side that is left out is not read. */
  readonly needs: Readonly<Partial<Record<'real' | 'fake', readonly SampleForm[]>>>;
  /**
   * The name of the extractor that it is defined for: 'dinov2' of the metric 'fd-dinov2'. Default: the evaluation's
   * extractor, whichever that is.
   */
  readonly extractor?: string | undefined;
  /** Its options with their defaults. The names must differ from those of other metrics unless they mean the same. */
  readonly options: Options;
  /**
   * Which values of `compute` are better when they are higher or lower, by their names in reports: `keep_best` of
   * `EvaluationCallback` can go by these. Default: none.
   */
  readonly better?: Readonly<Record<string, 'higher' | 'lower'>>;
  /**
   * Refuses wrong options and too few samples, before the work. It is called twice: with no counts before anything is
   * opened, and with those that are known then.
   *
   * @throws {InvalidArgumentError} that says what is wrong and what is possible.
   */
  check?(counts: SampleCounts, options: Options): void;
  /**
   * Chooses the values of options that depend on the number of samples. It is called once, after `check`, with the
   * numbers that are known; `compute` and the report have what it returns. Default: the options stay as they are.
   */
  resolveOptions?(counts: SampleCounts, options: Options): Options;
  /**
   * Computes the metric.
   *
   * @returns the values under the names they have in reports, such as `kid_mean`.
   */
  compute(inputs: MetricInputs<Options>): Promise<Record<string, number>> | Record<string, number>;
}

/** @throws {InvalidArgumentError} when a side has fewer than `least` samples. */
export function requireSamples(metric: string, counts: SampleCounts, least: number, reason: string): void {
  for (const [role, count] of Object.entries(counts)) {
    if (count === undefined || count >= least) continue;
    throw new InvalidArgumentError(
      `${role} has ${count} samples, but '${metric}' needs at least ${least} for ${reason}: give more samples, or smaller settings`,
    );
  }
}

/** @throws {InvalidArgumentError} unless the value is an integer of at least `least`. */
export function requireInteger(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new InvalidArgumentError(`${name} is ${value}; it must be an integer of at least ${least}.`);
}

/** @throws {InvalidArgumentError} unless both sides have the same number of dimensions. */
export function requireSameDims(real: Pick<PointCloud, 'dims'>, fake: Pick<PointCloud, 'dims'>): void {
  if (real.dims === fake.dims) return;
  throw new InvalidArgumentError(`real has ${real.dims} dimensions and fake has ${fake.dims}; they must be the same.`);
}

/**
 * Checks that the shape fits the data and every value is finite.
 *
 * @param name how the message calls the cloud, e.g. `real`.
 * @throws {InvalidArgumentError}
 */
export function checkPointCloud(name: string, cloud: PointCloud): void {
  requireObject(name, cloud);
  requireArray(`${name}.data`, cloud.data);
  const { data, count, dims } = cloud;
  if (!Number.isInteger(count) || count < 1 || !Number.isInteger(dims) || dims < 1)
    throw new InvalidArgumentError(`${name} has count ${count} and dims ${dims}; both must be integers of at least 1.`);
  if (data.length !== count * dims)
    throw new InvalidArgumentError(
      `${name}.data has ${data.length} values, but ${count} points of ${dims} dimensions need ${count * dims}.`,
    );
  for (let at = 0; at < data.length; at++) {
    if (Number.isFinite(data[at])) continue;
    throw new InvalidArgumentError(
      `${name} holds ${data[at]} at point ${Math.floor(at / dims)}, dimension ${at % dims}; ` +
        'every value must be finite. Remove or repair that point.',
    );
  }
}

/** The rows of a cloud that `indices` lists, in that order. */
export function pickRows({ data, dims }: PointCloud, indices: Uint32Array): PointCloud {
  const rows = new Float32Array(indices.length * dims);
  indices.forEach((row, at) => {
    rows.set(data.subarray(row * dims, (row + 1) * dims), at * dims);
  });
  return { data: rows, count: indices.length, dims };
}

/** Mean and standard deviation; the divisor is the number of values, as in numpy's `std`. One value has no deviation. */
export function meanAndStd(values: readonly number[]): { mean: number; std: number | undefined } {
  const average = (numbers: readonly number[]) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const mean = average(values);
  if (values.length === 1) return { mean, std: undefined };
  return { mean, std: Math.sqrt(average(values.map((value) => (value - mean) ** 2))) };
}
