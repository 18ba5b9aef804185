import { InvalidArgumentError, NonFiniteSampleError } from '../errors.ts';
import { requireArray, requireObject } from '../options.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import type { PredictionType } from '../schedulers/schedule.ts';
import { noiseCoefficients } from '../schedulers/steps.ts';
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
  alpha_cumprod: number;
  /** ᾱ_t E‖x_0‖² + (1 - ᾱ_t) n. */
  expected: Isotropy;
  /** The mean over x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε, one fresh ε a point. */
  sampled: Isotropy;
  /** The standard error of `sampled.squared_norm` as an estimate of `expected.squared_norm`: only ε is random. */
  standard_error: number;
}

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
  return ofMean(sum / count, dims);
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
    expected: ofMean(alpha * ofData.squared_norm + (1 - alpha) * points.dims, points.dims),
    sampled: ofMean(noisedSquaredNorm(points, alpha, new RandomStream(seed, STREAM.metrics, timestep)), points.dims),
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

function ofMean(squaredNorm: number, dims: number): Isotropy {
  return { squared_norm: squaredNorm, per_element: squaredNorm / dims };
}

/** A model that can be asked for its output: `pipeline.model` is one. */
export interface NoisePredictor {
  /** @param sample row-major x_t, all at the timestep. */
  predict(sample: Float32Array, timestep: number): Promise<Float32Array>;
}

export interface PredictedNoiseIsotropyOptions {
  /** The model that is asked. */
  readonly model: NoisePredictor;
  /** What the model's output is: the noise, the velocity or x_0. */
  readonly prediction_type: PredictionType;
  /** x_0 in the model's units. */
  readonly points: PointCloud;
  /** ᾱ_t for each timestep, in (0, 1). */
  readonly alphasCumprod: ArrayLike<number>;
  /** Indices into `alphasCumprod`, from 0. */
  readonly timesteps: readonly number[];
  /** Seed of the noise, an integer of at least 0. Every timestep has its own stream. */
  readonly seed: number;
  /** Called with the finished fraction, 0 to 1, after each timestep. Default: none. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
  /** Ends the computation with the signal's reason. Default: none. */
  readonly signal?: AbortSignal | undefined;
}

/** The isotropy of the predicted noise at one timestep. */
export interface PredictedNoiseIsotropy extends Isotropy {
  timestep: number;
  /** E‖ε − ε̂‖² / n. At the optimum of L_simple, `per_element` is 1 minus this. */
  mse: number;
}

/** Points of one model call. */
const BLOCK = 16_384;

/**
 * E‖ε̂‖² of a trained model at each timestep, over noised points of a data set (Iso-Diffusion, section 4).
 *
 * @throws {InvalidArgumentError} for bad points, or a timestep or cumulative alpha out of range.
 * @example
 * const rows = await predictedNoiseIsotropy({
 *   model: generate.model, prediction_type: 'epsilon', points, seed: 0,
 *   alphasCumprod: generate.scheduler.alphasCumprod, timesteps: [0, 500, 999],
 * });
 */
export async function predictedNoiseIsotropy(
  options: PredictedNoiseIsotropyOptions,
): Promise<PredictedNoiseIsotropy[]> {
  requireObject('the argument of predictedNoiseIsotropy', options);
  const { points, timesteps, alphasCumprod, on_progress, signal } = options;
  requireArray('timesteps', timesteps);
  requireArray('alphasCumprod', alphasCumprod);
  requireObject('model', options.model);
  checkPointCloud('points', points);
  for (const timestep of timesteps) checkAlpha(alphasCumprod[timestep], timestep);
  const rows: PredictedNoiseIsotropy[] = [];
  for (const [index, timestep] of timesteps.entries()) {
    signal?.throwIfAborted();
    const row = await atTimestep(options, timestep, alphasCumprod[timestep] as number);
    if (!Number.isFinite(row.mse))
      throw new NonFiniteSampleError(
        `the model gave NaN or infinity at timestep ${timestep}. Likely cause: its weights are not finite, for instance of a training run that diverged`,
        index + 1,
      );
    rows.push(row);
    on_progress?.(rows.length / timesteps.length);
  }
  return rows;
}

function checkAlpha(alpha: number | undefined, timestep: number): void {
  if (alpha !== undefined && alpha > 0 && alpha < 1) return;
  throw new InvalidArgumentError(
    `the cumulative alpha of timestep ${timestep} is ${alpha ?? 'missing'}: it must be between 0 and 1`,
  );
}

async function atTimestep(
  { model, prediction_type, points, seed }: PredictedNoiseIsotropyOptions,
  timestep: number,
  alpha: number,
): Promise<PredictedNoiseIsotropy> {
  const { data, count, dims } = points;
  const stream = new RandomStream(seed, STREAM.metrics, timestep);
  const signalScale = Math.sqrt(alpha);
  const noiseScale = Math.sqrt(1 - alpha);
  const { fromSample, fromOutput } = noiseCoefficients(prediction_type, alpha);
  let squaredNorm = 0;
  let squaredError = 0;
  for (let from = 0; from < data.length; from += BLOCK * dims) {
    const clean = data.subarray(from, from + BLOCK * dims);
    const noise = stream.fillNormal(new Float32Array(clean.length));
    const noisy = clean.map((x, i) => signalScale * x + noiseScale * (noise[i] as number));
    const output = await model.predict(noisy, timestep);
    for (let i = 0; i < noisy.length; i++) {
      const predicted = fromSample * (noisy[i] as number) + fromOutput * (output[i] as number);
      squaredNorm += predicted * predicted;
      squaredError += ((noise[i] as number) - predicted) ** 2;
    }
  }
  const values = count * dims;
  return { timestep, ...ofMean(squaredNorm / count, dims), mse: squaredError / values };
}
