import { InvalidArgumentError } from '../../errors.ts';
import { RandomStream, STREAM } from '../../random/random-stream.ts';
import { checkPointCloud, type PointCloud } from '../prdc/point-cloud.ts';
import type { Isotropy } from './isotropy.ts';

/** A model that can be asked for its output: `pipeline.model` is one. */
export interface NoisePredictor {
  /** @param sample row-major x_t, all at the timestep. */
  predict(sample: Float32Array, timestep: number): Promise<Float32Array>;
}

export interface PredictedNoiseIsotropyOptions {
  readonly model: NoisePredictor;
  /** What the model's output is. */
  readonly prediction_type: 'epsilon' | 'v_prediction' | 'sample';
  /** x_0 in the model's units. */
  readonly points: PointCloud;
  /** The cumulative product of alphas by timestep, each in (0, 1). */
  readonly alphasCumprod: ArrayLike<number>;
  /** From 0. */
  readonly timesteps: readonly number[];
  /** Seed of the noise; every timestep has its own stream. */
  readonly seed: number;
  /** Called with the finished fraction after each timestep. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
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
 * E‖ε̂‖² of a trained model by timestep, over noised points of a data set (Iso-Diffusion, section 4).
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
  const { points, timesteps, alphasCumprod, on_progress, signal } = options;
  checkPointCloud('points', points);
  for (const timestep of timesteps) checkAlpha(alphasCumprod[timestep], timestep);
  const rows: PredictedNoiseIsotropy[] = [];
  for (const timestep of timesteps) {
    signal?.throwIfAborted();
    rows.push(await atTimestep(options, timestep, alphasCumprod[timestep] as number));
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
  let squaredNorm = 0;
  let squaredError = 0;
  for (let from = 0; from < data.length; from += BLOCK * dims) {
    const clean = data.subarray(from, from + BLOCK * dims);
    const noise = stream.fillNormal(new Float32Array(clean.length));
    const noisy = clean.map((x, i) => signalScale * x + noiseScale * (noise[i] as number));
    const output = await model.predict(noisy, timestep);
    for (let i = 0; i < noisy.length; i++) {
      const x = noisy[i] as number;
      const y = output[i] as number;
      // PAPER.md: the noise from a velocity, and from a clean sample.
      const predicted =
        prediction_type === 'epsilon'
          ? y
          : prediction_type === 'v_prediction'
            ? noiseScale * x + signalScale * y
            : (x - signalScale * y) / noiseScale;
      squaredNorm += predicted * predicted;
      squaredError += ((noise[i] as number) - predicted) ** 2;
    }
  }
  const values = count * dims;
  return {
    timestep,
    squared_norm: squaredNorm / count,
    per_element: squaredNorm / values,
    mse: squaredError / values,
  };
}
