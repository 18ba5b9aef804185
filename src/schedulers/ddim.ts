import { requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { Complete, Fields } from '../options.ts';
import * as z from '../zod.ts';
import { refuseOtherProcess } from './config-file.ts';
import { type PredictionType, parseSchedulerConfig, type SchedulerOptions, scheduleShape } from './schedule.ts';
import { Scheduler } from './scheduler.ts';
import {
  alphaBetween,
  type ClippingOptions,
  clipLimit,
  clippingShape,
  originalCoefficients,
  type StepCoefficients,
  type StepOptions,
  type StepOutput,
  takeStep,
} from './steps.ts';

/** Options of `DDIMScheduler`, with the names and defaults of diffusers. */
export interface DDIMOptions extends SchedulerOptions, ClippingOptions {
  /** Whether the last step ends at abar = 1, without noise; else at the abar of timestep 0. Default true. */
  readonly set_alpha_to_one?: boolean | undefined;
}

const configShape = {
  ...scheduleShape,
  ...clippingShape,
  set_alpha_to_one: z._default(z.boolean(), true),
} satisfies Fields<DDIMOptions>;

type DDIMStepOptions = Pick<StepOptions, 'eta' | 'use_clipped_model_output'>;

/**
 * Song et al. 2021, "Denoising Diffusion Implicit Models", with the config and the numerics of diffusers'
 * DDIMScheduler.
 *
 * @example
 * const scheduler = new DDIMScheduler({ clip_sample: false });
 * scheduler.setTimesteps(50);
 */
export class DDIMScheduler extends Scheduler<Complete<DDIMOptions>> {
  readonly className: string = 'DDIMScheduler';
  override readonly library: string = 'diffusers';

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: DDIMOptions = {}) {
    const config = parseSchedulerConfig('DDIMScheduler', configShape, options);
    super(config, config);
  }

  /**
   * From a parsed `scheduler_config.json`, also of another scheduler with the same noise schedule.
   *
   * @throws {ConfigError} when a value is wrong, or the noise is of another kind.
   */
  static override fromConfig(json: unknown): DDIMScheduler {
    refuseOtherProcess('DDIMScheduler', json);
    return new DDIMScheduler(json as DDIMOptions);
  }

  /**
   * @throws {InvalidArgumentError} as the base, and where the predicted noise says nothing of the clean sample at one of
   * the timesteps: abar is 0 there, and nothing is clipped.
   */
  override setTimesteps(...args: Parameters<Scheduler['setTimesteps']>): void {
    super.setTimesteps(...args);
    for (const timestep of this.timesteps) originalCoefficients(this.config, this.alphaBarAt(timestep), timestep);
  }

  /** 50, or T where that is less. */
  override get usualSteps(): number {
    return Math.min(50, this.config.num_train_timesteps);
  }

  /** Whether the step adds noise: where eta > 0. */
  override needsNoise(_timestep: number, eta = 0): boolean {
    return eta > 0;
  }

  override stepCoefficients(timestep: number, options: DDIMStepOptions = {}): StepCoefficients | null {
    requireObject('the options of stepCoefficients', options);
    return this.config.thresholding ? null : this.coefficients(timestep, options);
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, or noise or `sample_shape` is missing where needed. */
  step(
    modelOutput: Float32Array,
    timestep: number,
    sample: Float32Array,
    options: StepOptions = {},
  ): Required<StepOutput> {
    requireObject('the options of a step', options);
    return takeStep(this.coefficients(timestep, options), modelOutput, sample, options, this.config);
  }

  /** Eq. 12 of Song et al., with epsilon written as a combination of sample, output and predicted clean sample. */
  private coefficients(
    timestep: number,
    { eta = 0, use_clipped_model_output = false }: DDIMStepOptions,
  ): StepCoefficients {
    if (!(eta >= 0 && eta <= 1)) throw new InvalidArgumentError(`eta is ${eta}, but must be in [0, 1]`);
    const { prediction_type } = this.config;
    const alphaBar = this.alphaBarAt(timestep);
    const alphaBarPrevious = this.previousAlphaBar(timestep);
    const alpha = alphaBetween(alphaBar, alphaBarPrevious);
    // At abar = 1 there is no noise yet, and the first factor would be 0 / 0.
    const variance = alphaBar === 1 ? 0 : ((1 - alphaBarPrevious) / (1 - alphaBar)) * (1 - alpha);
    const deviation = eta * Math.sqrt(variance);
    // Rounding can put the difference below 0, for instance at abar = 0 with eta = 1.
    const direction = Math.sqrt(Math.max(1 - alphaBarPrevious - deviation ** 2, 0));
    const epsilon = epsilonCoefficients(use_clipped_model_output ? 'clipped original' : prediction_type, alphaBar);
    const original = originalCoefficients(this.config, alphaBar, timestep);
    return {
      originalFromSample: Math.fround(original.fromSample),
      originalFromOutput: Math.fround(original.fromOutput),
      clip: clipLimit(this.config),
      fromOriginal: Math.fround(Math.sqrt(alphaBarPrevious) + direction * epsilon.fromOriginal),
      fromSample: Math.fround(direction * epsilon.fromSample),
      fromOutput: Math.fround(direction * epsilon.fromOutput),
      fromNoise: Math.fround(deviation),
    };
  }

  private previousAlphaBar(timestep: number): number {
    const previous = this.previousTimestep(timestep);
    if (previous >= 0) return this.alphaBarAt(previous);
    return this.config.set_alpha_to_one ? 1 : (this.alphasCumprod[0] ?? 1);
  }
}

/**
 * Without `use_clipped_model_output`, epsilon is what the output says before clipping. It is 0 at abar = 1, where there
 * is no noise.
 */
function epsilonCoefficients(from: PredictionType | 'clipped original', alphaBar: number) {
  const signal = Math.sqrt(alphaBar);
  const noise = Math.sqrt(1 - alphaBar);
  if (noise === 0) return { fromOriginal: 0, fromSample: 0, fromOutput: 0 };
  switch (from) {
    case 'epsilon':
      return { fromOriginal: 0, fromSample: 0, fromOutput: 1 };
    case 'v_prediction':
      return { fromOriginal: 0, fromSample: noise, fromOutput: signal };
    case 'sample':
      return { fromOriginal: 0, fromSample: 1 / noise, fromOutput: -signal / noise };
    case 'clipped original':
      return { fromOriginal: -signal / noise, fromSample: 1 / noise, fromOutput: 0 };
  }
}
