// From samples to the noise that DDIM draws them from.

import type { TrainedIsotropy } from '../../losses/minimiser.ts';
import { type Fields, functionOption, numberOption, signalOption } from '../../options.ts';
import { asScheduler, type GivenScheduler } from '../../schedulers/registry.ts';
import type { Scheduler } from '../../schedulers/scheduler.ts';
import { DDIMInverseScheduler } from '../../schedulers/solvers/ddim-inverse.ts';
import * as z from '../../zod.ts';
import { type NoiseScaleOptions, noiseScaleShape, readNoiseScale } from '../noise-scale.ts';
import { type SamplingCall, schedulerOption, startedScheduler } from '../sampling-options.ts';
import type { Edit } from './edit.ts';

/** How noise is found. What changes the model's prediction must be as in the call that draws from the noise. */
export interface InversionOptions extends NoiseScaleOptions {
  /** Steps from the sample to its noise, 1 to the scheduler's `num_train_timesteps`; default 50, or T where that is less. */
  readonly num_inference_steps?: number | undefined;
  /**
   * The scheduler whose noise schedule and timesteps are gone backwards, as for a call of the pipeline. Default
   * `generate.scheduler`.
   */
  readonly scheduler?: GivenScheduler | undefined;
  /** Called with the fraction done, 0 to 1. Default none. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
  /** Stops between steps; the promise rejects with `signal.reason`. Default none. */
  readonly signal?: AbortSignal | undefined;
}

export const inversionShape = {
  ...noiseScaleShape,
  num_inference_steps: z.optional(numberOption),
  scheduler: z.optional(schedulerOption),
  on_progress: z.optional(functionOption<(fraction: number) => void>()),
  signal: z.optional(signalOption),
} satisfies Fields<InversionOptions>;

export const inversionSchema = z.strictObject(inversionShape);

/**
 * What an inversion draws with: DDIM backwards, without clipping, which could not be undone.
 *
 * @param own the pipeline's scheduler and what is known of its model's isotropy.
 * @throws {InvalidArgumentError} when an option is out of range. @throws {ConfigError} for a wrong scheduler config.
 */
export function inversionCall(
  options: InversionOptions,
  own: { readonly scheduler: Scheduler; readonly isotropy: TrainedIsotropy | undefined },
): SamplingCall {
  const given = options.scheduler === undefined ? own.scheduler : asScheduler(options.scheduler, own.scheduler);
  const config = { ...given.toConfig(), _class_name: 'DDIMInverseScheduler', clip_sample: false };
  const scheduler = DDIMInverseScheduler.fromConfig(config);
  const num_inference_steps = options.num_inference_steps ?? Math.min(50, scheduler.config.num_train_timesteps);
  // The factors are those of the first and the last step of a call that draws; here the last comes first.
  const scale = readNoiseScale(options, own.isotropy);
  return {
    scheduler: startedScheduler({ scheduler, num_inference_steps }),
    num_inference_steps,
    seed: 0,
    eta: 0,
    use_clipped_model_output: false,
    noiseScale: scale && [scale[1], scale[0]],
    callback: undefined,
    onProgress: options.on_progress,
    signal: options.signal,
  };
}

/** The samples as they are: an inversion adds no noise to them. */
export function invertedFrom(samples: Float32Array): Edit {
  return { samples, mask: undefined, strength: 1, jump_length: 1, jump_n_sample: 1 };
}
