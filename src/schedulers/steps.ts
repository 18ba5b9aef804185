// One reverse step: what `Scheduler.step` takes and gives, and the combination that DDPM and DDIM share.

import { requireArray } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { Complete, Fields } from '../options.ts';
import * as z from '../zod.ts';
import type { PredictionType, SchedulerConfig } from './schedule.ts';

const { fround } = Math;

/** What a step needs beside the model's output and the sample. */
export interface StepOptions {
  /**
   * Standard normal noise, as many values as the sample; needed where `needsNoise` is true. Default none. A pipeline
   * fills the same array anew for the next step: copy what is kept.
   */
  readonly noise?: Float32Array | undefined;
  /** [batch, channels, ...]; needed for thresholding and for learned variances. Default unknown. */
  readonly sample_shape?: readonly number[] | undefined;
  /** DDIM's eta in [0, 1]; default 0, deterministic. */
  readonly eta?: number | undefined;
  /** DDIM: whether epsilon is derived anew from the clipped prediction; default false. */
  readonly use_clipped_model_output?: boolean | undefined;
}

/** What one step of the reverse process gives. */
export interface StepOutput {
  /** x at the next timestep of the reverse process, as many values as the sample. */
  readonly prev_sample: Float32Array;
  /** The clean sample as predicted now, where the scheduler knows it. */
  readonly pred_original_sample?: Float32Array | undefined;
}

/** What a noisy sample is made of: signal x_0 + noise eps. */
export interface NoiseLevel {
  /** The factor of the clean sample, 0 or more. */
  readonly signal: number;
  /** The standard deviation of the noise, 0 or more. */
  readonly noise: number;
}

/** What keeps the predicted clean sample in its range. */
export interface ClippingOptions {
  /** Whether the predicted clean sample is clipped; default true. Turn it off for data that is not in [-1, 1]. */
  readonly clip_sample?: boolean | undefined;
  /** The largest absolute value where it is clipped, above 0; default 1. */
  readonly clip_sample_range?: number | undefined;
  /** Dynamic thresholding (Saharia et al. 2022) in place of clipping, for models of pixels; default false. */
  readonly thresholding?: boolean | undefined;
  /** The quantile of the absolute values that dynamic thresholding clips to, 0 to 1; default 0.995. */
  readonly dynamic_thresholding_ratio?: number | undefined;
  /** The largest value that dynamic thresholding clips to, above 0; default 1. */
  readonly sample_max_value?: number | undefined;
}

export const clippingShape = {
  clip_sample: z._default(z.boolean(), true),
  clip_sample_range: z._default(z.number().check(z.positive()), 1),
  thresholding: z._default(z.boolean(), false),
  dynamic_thresholding_ratio: z._default(z.number().check(z.gte(0), z.lte(1)), 0.995),
  sample_max_value: z._default(z.number().check(z.positive()), 1),
} satisfies Fields<ClippingOptions>;

type ClippingConfig = Complete<ClippingOptions>;

/**
 * One reverse step as float32 numbers. `takeStep`, and a graph that does the same operations in the same order, each
 * rounded to float32, give the same bits:
 *
 * 1. original = sample * originalFromSample + output * originalFromOutput
 * 2. original = clip(original, -clip, clip), where `clip` is not null
 * 3. previous = original * fromOriginal + sample * fromSample
 * 4. previous = previous + output * fromOutput, only where fromOutput is not 0
 * 5. previous = previous + noise * fromNoise, only where fromNoise is not 0
 */
export interface StepCoefficients {
  /** What the sample counts in the estimate of x_0. */
  readonly originalFromSample: number;
  /** What the model's output counts in it. */
  readonly originalFromOutput: number;
  /** The bound of the estimate, above 0; null for none. */
  readonly clip: number | null;
  /** What the estimate of x_0 counts in the next sample. */
  readonly fromOriginal: number;
  /** What the present sample counts in it. */
  readonly fromSample: number;
  /** What the model's output counts in it directly. */
  readonly fromOutput: number;
  /** What fresh noise counts in it: its standard deviation. */
  readonly fromNoise: number;
}

/**
 * In place of 1 / sqrt(abar) at abar = 0, where predicted noise gives a clean sample of any size: so large that every
 * difference of sample and output reaches the clipping limit, as infinity does in diffusers. A power of 2 is exact.
 */
const UNBOUNDED = 2 ** 100;

/**
 * The predicted clean sample as a combination of the noisy sample and the model output.
 *
 * @throws {InvalidArgumentError} for predicted noise at abar = 0 where nothing is clipped: there is no finite answer.
 */
export function originalCoefficients(
  {
    prediction_type,
    clip_sample,
    thresholding,
  }: Pick<ClippingConfig, 'clip_sample' | 'thresholding'> & Pick<SchedulerConfig, 'prediction_type'>,
  alphaBar: number,
  timestep: number,
): { fromSample: number; fromOutput: number } {
  switch (prediction_type) {
    case 'epsilon':
      if (alphaBar === 0) {
        if (clip_sample || thresholding) return { fromSample: UNBOUNDED, fromOutput: -UNBOUNDED };
        throw new InvalidArgumentError(
          `at timestep ${timestep} no signal is left (abar is 0), so predicted noise says nothing of the clean sample: set prediction_type to 'v_prediction' or 'sample' for a model that was trained so; or set clip_sample, for data in [-1, 1]; or set rescale_betas_zero_snr to false, if that is what makes abar 0`,
        );
      }
      return {
        fromSample: 1 / Math.sqrt(alphaBar),
        fromOutput: -Math.sqrt(1 - alphaBar) / Math.sqrt(alphaBar),
      };
    case 'v_prediction':
      return { fromSample: Math.sqrt(alphaBar), fromOutput: -Math.sqrt(1 - alphaBar) };
    case 'sample':
      return { fromSample: 0, fromOutput: 1 };
  }
}

/** alpha of a step from abar to an earlier one. Where neither has a signal left, the step draws new noise: 0. */
export function alphaBetween(alphaBar: number, alphaBarPrevious: number): number {
  return alphaBarPrevious === 0 ? 0 : alphaBar / alphaBarPrevious;
}

/** The predicted noise as a combination of the noisy sample and the model output. */
export function noiseCoefficients(type: PredictionType, alphaBar: number): { fromSample: number; fromOutput: number } {
  switch (type) {
    case 'epsilon':
      return { fromSample: 0, fromOutput: 1 };
    case 'v_prediction':
      return { fromSample: Math.sqrt(1 - alphaBar), fromOutput: Math.sqrt(alphaBar) };
    case 'sample':
      return { fromSample: 1 / Math.sqrt(1 - alphaBar), fromOutput: -Math.sqrt(alphaBar) / Math.sqrt(1 - alphaBar) };
  }
}

/** Thresholding takes precedence over clipping. */
export function clipLimit(config: ClippingConfig): number | null {
  return config.clip_sample && !config.thresholding ? config.clip_sample_range : null;
}

/**
 * The step that the coefficients describe, with thresholding in place of clipping where it is on.
 *
 * @throws {InvalidArgumentError} when sizes do not fit, or noise or `sample_shape` is missing.
 */
export function takeStep(
  coefficients: StepCoefficients,
  output: Float32Array,
  sample: Float32Array,
  { noise, sample_shape }: StepOptions,
  config: ClippingConfig,
): Required<StepOutput> {
  requireArray('the model output', output);
  requireArray('the sample', sample);
  if (output.length !== sample.length)
    throw new InvalidArgumentError(`the model output has ${output.length} values, but the sample has ${sample.length}`);
  if (coefficients.fromNoise !== 0) checkNoise(noise, sample.length);
  const original = predictOriginal(output, sample, coefficients);
  const kept = config.thresholding ? threshold(original, sample_shape, config) : original;
  return { prev_sample: previousSample(kept, output, sample, noise, coefficients), pred_original_sample: kept };
}

/** @throws {InvalidArgumentError} unless there is a value of noise for each of the sample. */
export function checkNoise(noise: Float32Array | undefined, length: number): asserts noise is Float32Array {
  if (noise?.length === length) return;
  throw new InvalidArgumentError(`this step needs ${length} values of noise, got ${noise?.length ?? 'none'}`);
}

/** Operations 1 and 2 of `StepCoefficients`. Plain loops: a callback for each value makes a step four times as slow. */
function predictOriginal(output: Float32Array, sample: Float32Array, coefficients: StepCoefficients): Float32Array {
  const a = fround(coefficients.originalFromSample);
  const b = fround(coefficients.originalFromOutput);
  const original = new Float32Array(sample.length);
  for (let i = 0; i < original.length; i++)
    original[i] = fround((sample[i] as number) * a) + fround((output[i] as number) * b);
  if (coefficients.clip !== null) clipInPlace(original, coefficients.clip);
  return original;
}

/**
 * Math.min(Math.max(x, -limit), limit), limit > 0, on the bits of a float32: below the sign they are ordered as its size is.
 * Branches on values that are random take five times as long.
 */
function clipInPlace(values: Float32Array, limit: number): void {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  const [most = 0] = new Int32Array(Float32Array.of(limit).buffer);
  for (let i = 0; i < bits.length; i++) {
    const size = (bits[i] as number) & 0x7fffffff;
    // All ones where the size is above the limit, but not for NaN.
    const isAbove = ((most - size) & (size - (INFINITE_BITS + 1))) >> 31;
    bits[i] = (bits[i] as number) ^ ((size ^ most) & isAbove);
  }
}

/** Of infinity as a float32; NaN has more. */
const INFINITE_BITS = 0x7f800000;

/** Operations 3 to 5 in one loop: passes over memory take longer than the arithmetic. */
function previousSample(
  original: Float32Array,
  output: Float32Array,
  sample: Float32Array,
  noise: Float32Array | undefined,
  coefficients: StepCoefficients,
): Float32Array {
  const fromOriginal = fround(coefficients.fromOriginal);
  const fromSample = fround(coefficients.fromSample);
  const fromOutput = fround(coefficients.fromOutput);
  const fromNoise = fround(coefficients.fromNoise);
  const previous = new Float32Array(sample.length);
  for (let i = 0; i < previous.length; i++) {
    let value = fround(fround((original[i] as number) * fromOriginal) + fround((sample[i] as number) * fromSample));
    if (fromOutput !== 0) value = fround(value + fround((output[i] as number) * fromOutput));
    if (fromNoise !== 0 && noise) value = fround(value + fround((noise[i] as number) * fromNoise));
    previous[i] = value;
  }
  return previous;
}

/** The two halves of the channels, mean and learned variance, of an output [batch, 2 C, ...]. */
export function splitChannels(output: Float32Array, batch: number): [mean: Float32Array, variance: Float32Array] {
  const size = output.length / (2 * batch);
  const [mean, variance] = [new Float32Array(batch * size), new Float32Array(batch * size)];
  for (let i = 0; i < batch; i++) {
    mean.set(output.subarray(2 * i * size, (2 * i + 1) * size), i * size);
    variance.set(output.subarray((2 * i + 1) * size, (2 * i + 2) * size), i * size);
  }
  return [mean, variance];
}

/**
 * Dynamic thresholding (Saharia et al. 2022, section 2.3): clips each sample to s, the given quantile of its absolute
 * values limited to [1, sample_max_value], and divides by s.
 */
export function threshold(
  values: Float32Array,
  shape: readonly number[] | undefined,
  {
    dynamic_thresholding_ratio,
    sample_max_value,
  }: Pick<ClippingConfig, 'dynamic_thresholding_ratio' | 'sample_max_value'>,
): Float32Array {
  const batch = shape?.[0];
  if (batch === undefined) throw new InvalidArgumentError('thresholding needs the option sample_shape: [batch, ...]');
  const size = values.length / batch;
  if (!Number.isInteger(size))
    throw new InvalidArgumentError(`${values.length} values cannot be divided into ${batch} samples`);
  const result = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += size) {
    const sample = values.subarray(start, start + size);
    const bound = quantile(sample.map(Math.abs).sort(), dynamic_thresholding_ratio);
    const limit = Math.min(Math.max(bound, 1), sample_max_value);
    sample.forEach((value, i) => {
      result[start + i] = Math.min(Math.max(value, -limit), limit) / limit;
    });
  }
  return result;
}

/** Linear interpolation between closest ranks, as torch.quantile. */
function quantile(sorted: Float32Array, ratio: number): number {
  const rank = ratio * (sorted.length - 1);
  const low = sorted[Math.floor(rank)] as number;
  const high = sorted[Math.ceil(rank)] as number;
  return Math.fround(low + (rank - Math.floor(rank)) * (high - low));
}
