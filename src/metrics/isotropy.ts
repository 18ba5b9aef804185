import { requireArray, requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import { checkPointCloud, type PointCloud, requireInteger } from './metric.ts';

/** The isotropy of vectors x in R^n, E‖x‖² (Iso-Diffusion, section 3.3): n for white noise. */
export interface Isotropy {
  /** E‖x‖². */
  squared_norm: number;
  /** E‖x‖² / n: 1 for white noise. */
  per_element: number;
}

/** The isotropy of x_t at one timestep: what the closed form says and what noised samples show. */
export interface NoisedIsotropy {
  /** Index into `alphasCumprod`, from 0. */
  timestep: number;
  /** ᾱ_t. */
  alpha_cumprod: number;
  /** ᾱ_t E‖x_0‖² + (1 - ᾱ_t) n. */
  expected: Isotropy;
  /** The mean over x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε, one fresh ε a point. */
  sampled: Isotropy;
  /** The standard error of `sampled.squared_norm` as an estimate of `expected.squared_norm`: only ε is random. */
  standard_error: number;
}

/** What is noised, and at which timesteps. */
export interface NoisedIsotropyOptions {
  /** The data set x_0. */
  points: PointCloud;
  /** ᾱ_t for each timestep, in [0, 1]. */
  alphasCumprod: ArrayLike<number>;
  /** Seed of the noise, an integer of at least 0. Every timestep has its own stream. */
  seed: number;
  /** Indices into `alphasCumprod`. Default: all of them. */
  timesteps?: readonly number[] | undefined;
}

/**
 * The mean squared norm of `count` vectors of `dims` values, summed in float64.
 *
 * @param data row-major, count x dims.
 * @throws InvalidArgumentError for values that are not finite or a shape that does not fit.
 *
 * @example
 * isotropy(new RandomStream(0).fillNormal(new Float32Array(20_000)), 10_000, 2).per_element; // about 1
 */
export function isotropy(data: Float32Array, count: number, dims: number): Isotropy {
  checkPointCloud('data', { data, count, dims });
  const sum = data.reduce((total, value) => total + value * value, 0);
  return isotropyOfMean(sum / count, dims);
}

/**
 * The isotropy of x_t against t for a data set (Iso-Diffusion, section 4): in closed form and measured on noised
 * points. For data with E‖x_0‖² <= n it grows with t, towards n.
 *
 * @throws InvalidArgumentError for an ᾱ outside [0, 1], a timestep outside the schedule, a wrong seed or bad points.
 *
 * @example
 * const rows = isotropyOfNoisedData({ points, alphasCumprod: scheduler.alphasCumprod, seed: 0, timesteps: [0, 999] });
 * rows[1].expected.per_element; // about 1
 */
export function isotropyOfNoisedData(options: NoisedIsotropyOptions): NoisedIsotropy[] {
  requireObject('the argument of isotropyOfNoisedData', options);
  const { points, alphasCumprod, seed } = options;
  requireArray('alphasCumprod', alphasCumprod);
  checkPointCloud('points', points);
  const timesteps = options.timesteps ?? Array.from({ length: alphasCumprod.length }, (_, t) => t);
  requireInteger('seed', seed, 0);
  const schedule = timesteps.map((timestep) => ({ timestep, alpha: alphaAt(alphasCumprod, timestep) }));
  const ofData = isotropy(points.data, points.count, points.dims);
  return schedule.map(({ timestep, alpha }) => ({
    timestep,
    alpha_cumprod: alpha,
    expected: isotropyOfMean(alpha * ofData.squared_norm + (1 - alpha) * points.dims, points.dims),
    sampled: isotropyOfMean(
      noisedSquaredNorm(points, alpha, new RandomStream(seed, STREAM.metrics, timestep)),
      points.dims,
    ),
    standard_error: standardError(points, alpha, ofData.squared_norm),
  }));
}

function alphaAt(alphasCumprod: ArrayLike<number>, timestep: number): number {
  const alpha = alphasCumprod[timestep];
  if (!Number.isInteger(timestep) || alpha === undefined)
    throw new InvalidArgumentError(
      `timesteps holds ${timestep}; it must be an integer from 0 to ${alphasCumprod.length - 1}.`,
    );
  if (!(alpha >= 0 && alpha <= 1))
    throw new InvalidArgumentError(`alphasCumprod[${timestep}] is ${alpha}; it must be from 0 to 1.`);
  return alpha;
}

function noisedSquaredNorm(points: PointCloud, alpha: number, stream: RandomStream): number {
  const signal = Math.sqrt(alpha);
  const noise = Math.sqrt(1 - alpha);
  let sum = 0;
  for (const value of points.data) sum += (signal * value + noise * stream.normal()) ** 2;
  return sum / points.count;
}

/** For x = a + b ε with a fixed: Var‖x‖² = 2 n b⁴ + 4 b² ‖a‖², averaged over the points and divided by their count. */
function standardError(points: PointCloud, alpha: number, squaredNorm: number): number {
  const variance = 2 * points.dims * (1 - alpha) ** 2 + 4 * (1 - alpha) * alpha * squaredNorm;
  return Math.sqrt(variance / points.count);
}

export function isotropyOfMean(squaredNorm: number, dims: number): Isotropy {
  return { squared_norm: squaredNorm, per_element: squaredNorm / dims };
}
