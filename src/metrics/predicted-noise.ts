// What a trained model's predicted noise looks like, timestep by timestep.

import { requireArray, requireObject } from '../arguments.ts';
import { InvalidArgumentError, NonFiniteSampleError } from '../errors.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import type { PredictionType } from '../schedulers/schedule.ts';
import { noiseCoefficients } from '../schedulers/steps.ts';
import { type Isotropy, isotropyOfMean } from './isotropy.ts';
import { checkPointCloud, type PointCloud } from './metric.ts';

/** A model that can be asked for its output: `pipeline.model` is one. */
export interface NoisePredictor {
  /** The output of the model. @param sample row-major x_t, all at the timestep. @returns as many values as the sample. */
  predict(sample: Float32Array, timestep: number): Promise<Float32Array>;
}

/** Which model is asked, and at which noised points. */
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
  /** Index into `alphasCumprod`, from 0. */
  timestep: number;
  /** E‖ε − ε̂‖² / n. At the optimum of L_simple, `per_element` is 1 minus this. */
  mse: number;
}

/** Values of one model call. */
const BLOCK_VALUES = 32_768;

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
export function predictedNoiseIsotropy(options: PredictedNoiseIsotropyOptions): Promise<PredictedNoiseIsotropy[]> {
  return overTimesteps(options, (timestep, alpha) => atTimestep(options, timestep, alpha));
}

/** Checks the options, and computes a row for each timestep. */
async function overTimesteps<Row extends object>(
  options: PredictedNoiseIsotropyOptions,
  rowAt: (timestep: number, alpha: number) => Promise<Row>,
): Promise<Row[]> {
  requireObject('the argument', options);
  const { points, timesteps, alphasCumprod, on_progress, signal } = options;
  requireArray('timesteps', timesteps);
  requireArray('alphasCumprod', alphasCumprod);
  requireObject('model', options.model);
  checkPointCloud('points', points);
  for (const timestep of timesteps) checkAlpha(alphasCumprod[timestep], timestep);
  const rows: Row[] = [];
  for (const timestep of timesteps) {
    signal?.throwIfAborted();
    const row = await rowAt(timestep, alphasCumprod[timestep] as number);
    if (!Object.values(row).every(Number.isFinite))
      throw new NonFiniteSampleError(
        `the model gave NaN or infinity at timestep ${timestep}. Likely cause: its weights are not finite, for instance of a training run that diverged`,
        rows.length + 1,
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
  const { count, dims } = points;
  let squaredNorm = 0;
  let squaredError = 0;
  for (const { noise, noisy } of noisedBlocks(points, seed, timestep, alpha)) {
    const predicted = await predictedNoise({ model, prediction_type }, noisy, timestep, alpha);
    for (const [i, value] of predicted.entries()) {
      squaredNorm += value * value;
      squaredError += ((noise[i] as number) - value) ** 2;
    }
  }
  const values = count * dims;
  return { timestep, ...isotropyOfMean(squaredNorm / count, dims), mse: squaredError / values };
}

/** x_t and its noise, a block of points at a time. */
function* noisedBlocks({ data, dims }: PointCloud, seed: number, timestep: number, alpha: number) {
  const stream = new RandomStream(seed, STREAM.metrics, timestep);
  const signalScale = Math.sqrt(alpha);
  const noiseScale = Math.sqrt(1 - alpha);
  const block = Math.max(1, Math.floor(BLOCK_VALUES / dims)) * dims;
  for (let from = 0; from < data.length; from += block) {
    const clean = data.subarray(from, from + block);
    const noise = stream.fillNormal(new Float32Array(clean.length));
    yield { noise, noisy: clean.map((x, i) => signalScale * x + noiseScale * (noise[i] as number)) };
  }
}

/** In float64, as the sums that follow. */
async function predictedNoise(
  { model, prediction_type }: Pick<PredictedNoiseIsotropyOptions, 'model' | 'prediction_type'>,
  noisy: Float32Array,
  timestep: number,
  alpha: number,
): Promise<Float64Array> {
  const { fromSample, fromOutput } = noiseCoefficients(prediction_type, alpha);
  const output = await model.predict(noisy, timestep);
  return Float64Array.from(noisy, (x, i) => fromSample * x + fromOutput * (output[i] as number));
}

/** Which models are compared, and at which noised points. */
export interface PredictedNoiseRatioOptions extends PredictedNoiseIsotropyOptions {
  /** The model that it is compared with, of the same prediction type. */
  readonly base: NoisePredictor;
}

/** How the predicted noise of two models compares at one timestep. */
export interface PredictedNoiseRatio {
  /** Index into `alphasCumprod`, from 0. */
  timestep: number;
  /** The number r for which r times the base's noise is nearest to the model's: E[ε̂ · ε̂_base] / E[ε̂_base²]. */
  ratio: number;
  /** E[ε̂ · ε̂_base] / √(E[ε̂²] E[ε̂_base²]): 1 where the one is a multiple of the other. */
  correlation: number;
}

/**
 * Whether a model's predicted noise is another's times one number, as the minimisers of the Iso-Diffusion loss are
 * (docs/theory.md), timestep by timestep over the same noised points.
 *
 * @throws as `predictedNoiseIsotropy`.
 * @example
 * const rows = await predictedNoiseRatio({
 *   model: iso.model, base: ddpm.model, prediction_type: 'epsilon', points, seed: 0,
 *   alphasCumprod: ddpm.scheduler.alphasCumprod, timesteps: [100, 500, 900],
 * });
 */
export function predictedNoiseRatio(options: PredictedNoiseRatioOptions): Promise<PredictedNoiseRatio[]> {
  requireObject('base', options.base);
  return overTimesteps(options, async (timestep, alpha) => {
    const { model, base, prediction_type, points, seed } = options;
    let [product, squared, baseSquared] = [0, 0, 0];
    for (const { noisy } of noisedBlocks(points, seed, timestep, alpha)) {
      const predicted = await predictedNoise({ model, prediction_type }, noisy, timestep, alpha);
      const reference = await predictedNoise({ model: base, prediction_type }, noisy, timestep, alpha);
      for (const [i, value] of predicted.entries()) {
        const other = reference[i] as number;
        product += value * other;
        squared += value * value;
        baseSquared += other * other;
      }
    }
    return { timestep, ratio: product / baseSquared, correlation: product / Math.sqrt(squared * baseSquared) };
  });
}
