// The predicted noise times a number: what lambda does to a trained model (docs/theory.md), and Epsilon Scaling.

import { InvalidArgumentError } from '../errors.ts';
import { noiseScaleForLambda, type TrainedIsotropy } from '../losses/minimiser.ts';
import { type Fields, numberOption } from '../options.ts';
import { alphaBarBetween, type PredictionType } from '../schedulers/schedule.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import { noiseCoefficients } from '../schedulers/steps.ts';
import * as z from '../zod.ts';

export interface NoiseScaleOptions {
  /**
   * Draws as a model that was trained with this weight of the isotropy penalty: lambda of the Iso-Diffusion loss, finite
   * and >= 0. Needs the model's isotropy. Default: the lambda of its training, which changes nothing.
   */
  readonly iso_lambda?: number | undefined;
  /**
   * The model's isotropy for `iso_lambda`: mean squared predicted noise per element over its training data, above 0, at
   * most 1.5; a plain number is that of a model trained without the penalty. Default: what the pipeline folder says.
   */
  readonly isotropy?: number | TrainedIsotropy | undefined;
  /**
   * Multiplies the predicted noise at every step, in place of `iso_lambda`: a number above 0, or the factors of the first and
   * the last step, linear in between (Epsilon Scaling, Ning et al. 2024, with factors below 1). Default 1.
   */
  readonly noise_scale?: number | readonly [first: number, last: number] | undefined;
}

/** The types alone; ranges are checked together. */
export const noiseScaleShape = {
  iso_lambda: z.optional(numberOption),
  isotropy: z.optional(z.union([numberOption, z.strictObject({ isotropy: numberOption, lambda: numberOption })])),
  noise_scale: z.optional(
    z.union([
      numberOption,
      z.custom<readonly [number, number]>(
        (value) => Array.isArray(value) && value.length === 2 && value.every((one) => typeof one === 'number'),
        'must be a number, or two of them for the first and the last step',
      ),
    ]),
  ),
} satisfies Fields<NoiseScaleOptions>;

/** The factors of the first and the last step. */
export type NoiseScale = readonly [first: number, last: number];

/**
 * The factor of a call; undefined where it changes nothing.
 *
 * @param own the model's isotropy by its folder.
 * @throws {InvalidArgumentError} when an option is out of range, both are given, or the isotropy is not known.
 */
export function readNoiseScale(
  { iso_lambda, isotropy, noise_scale }: NoiseScaleOptions,
  own: TrainedIsotropy | undefined,
): NoiseScale | undefined {
  if (iso_lambda !== undefined && noise_scale !== undefined)
    throw new InvalidArgumentError(
      `iso_lambda ${iso_lambda} and noise_scale ${String(noise_scale)} both scale the predicted noise: give one of them`,
    );
  if (iso_lambda === undefined) return ofNumbers(noise_scale);
  const trained = typeof isotropy === 'number' ? { isotropy, lambda: 0 } : (isotropy ?? own);
  if (!trained)
    throw new InvalidArgumentError(
      `iso_lambda ${iso_lambda} needs the isotropy of the model, which its folder does not say: give the option isotropy, or measure it with 'iso-diffusion analyze --model MODEL --dataset DATA --save'`,
    );
  const scale = noiseScaleForLambda(iso_lambda, trained);
  return scale === 1 ? undefined : [scale, scale];
}

function ofNumbers(noise_scale: NoiseScaleOptions['noise_scale']): NoiseScale | undefined {
  if (noise_scale === undefined) return undefined;
  const [first, last] = typeof noise_scale === 'number' ? [noise_scale, noise_scale] : noise_scale;
  if (!isFactor(first) || !isFactor(last))
    throw new InvalidArgumentError(
      `noise_scale is ${JSON.stringify(noise_scale)}, but must be a finite number above 0, or two of them for the first and the last step`,
    );
  return first === 1 && last === 1 ? undefined : [first, last];
}

function isFactor(value: number): boolean {
  return Number.isFinite(value) && value > 0;
}

/** The output of a model whose predicted noise is scaled: output * fromOutput + input * fromInput. */
export interface OutputScale {
  readonly fromOutput: number;
  /** Times what the model was given; 0 where it predicts the noise itself. */
  readonly fromInput: number;
}

/** The scale of each step of a started scheduler. */
export function outputScales([first, last]: NoiseScale, scheduler: Scheduler): OutputScale[] {
  const { timesteps, config } = scheduler;
  return timesteps.map((timestep, step) => {
    const scale = first + (last - first) * (step / Math.max(1, timesteps.length - 1));
    return outputScale(scale, config.prediction_type, alphaBarBetween(scheduler.alphasCumprod, timestep));
  });
}

/**
 * Velocity and clean sample are turned into noise, scaled, and turned back: with eps-hat = a x + b y for the output y, the
 * output of s eps-hat is s y + (s - 1) (a / b) x. Where b is 0 the output says nothing of the noise, and is left as it is.
 */
function outputScale(scale: number, type: PredictionType, alphaBar: number): OutputScale {
  const { fromSample, fromOutput } = noiseCoefficients(type, alphaBar);
  if (fromOutput === 0 || !Number.isFinite(fromSample)) return { fromOutput: 1, fromInput: 0 };
  return { fromOutput: scale, fromInput: ((scale - 1) * fromSample) / fromOutput };
}

/**
 * The scaled output, in the first half of the channels where the second is a variance.
 *
 * @param output [batch, ...] as `input`, or [batch, 2 C, ...].
 */
export function scaledOutput(
  output: Float32Array,
  input: Float32Array,
  batch: number,
  { fromOutput, fromInput }: OutputScale,
): Float32Array {
  const { fround } = Math;
  const [a, b] = [fround(fromOutput), fround(fromInput)];
  const [outputSize, size] = [output.length / batch, input.length / batch];
  const result = output.slice();
  for (let sample = 0; sample < batch; sample++)
    for (let i = 0; i < size; i++) {
      const at = sample * outputSize + i;
      const scaled = fround((output[at] as number) * a);
      result[at] = fromInput === 0 ? scaled : scaled + fround((input[sample * size + i] as number) * b);
    }
  return result;
}
