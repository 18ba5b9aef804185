import { requireArray, requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { Complete, Fields } from '../options.ts';
import * as z from '../zod.ts';
import { refuseOtherProcess } from './config-file.ts';
import { parseSchedulerConfig, type SchedulerOptions, scheduleShape } from './schedule.ts';
import { Scheduler } from './scheduler.ts';
import {
  alphaBetween,
  type ClippingOptions,
  checkNoise,
  clipLimit,
  clippingShape,
  originalCoefficients,
  type StepCoefficients,
  type StepOptions,
  type StepOutput,
  splitChannels,
  takeStep,
} from './steps.ts';

export const VARIANCE_TYPES = [
  'fixed_small',
  'fixed_small_log',
  'fixed_large',
  'fixed_large_log',
  'learned',
  'learned_range',
] as const;
export type VarianceType = (typeof VARIANCE_TYPES)[number];

/** Options of `DDPMScheduler`, with the names and defaults of diffusers. */
export interface DDPMOptions extends SchedulerOptions, ClippingOptions {
  /**
   * The variance of a reverse step: beta-tilde of eq. 7 ('fixed_small', default), beta ('fixed_large'), or the model's
   * own ('learned', 'learned_range': Nichol & Dhariwal 2021). The names with `_log` mean the same.
   */
  readonly variance_type?: VarianceType | undefined;
}

const configShape = {
  ...scheduleShape,
  ...clippingShape,
  variance_type: z._default(z.enum(VARIANCE_TYPES), 'fixed_small'),
} satisfies Fields<DDPMOptions>;

/**
 * Ho et al. 2020, "Denoising Diffusion Probabilistic Models", with the config and the numerics of diffusers'
 * DDPMScheduler.
 *
 * @example
 * const scheduler = new DDPMScheduler({ variance_type: 'fixed_small' });
 * scheduler.setTimesteps(50);
 */
export class DDPMScheduler extends Scheduler<Complete<DDPMOptions>> {
  readonly className: string = 'DDPMScheduler';
  override readonly library: string = 'diffusers';

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: DDPMOptions = {}) {
    const config = parseSchedulerConfig('DDPMScheduler', configShape, options);
    super(config, config);
  }

  /**
   * From a parsed `scheduler_config.json`, also of another scheduler with the same noise schedule.
   *
   * @throws {ConfigError} when a value is wrong, or the noise is of another kind.
   */
  static override fromConfig(json: unknown): DDPMScheduler {
    refuseOtherProcess('DDPMScheduler', json);
    return new DDPMScheduler(json as DDPMOptions);
  }

  /**
   * @throws {InvalidArgumentError} as the base, and where the predicted noise says nothing of the clean sample at one of
   * the timesteps: abar is 0 there, and nothing is clipped.
   */
  override setTimesteps(...args: Parameters<Scheduler['setTimesteps']>): void {
    super.setTimesteps(...args);
    for (const timestep of this.timesteps) originalCoefficients(this.config, this.alphaBarAt(timestep), timestep);
  }

  /** Whether the step at `timestep` adds noise: all but the last. */
  override needsNoise(timestep: number): boolean {
    return timestep > 0;
  }

  override stepCoefficients(timestep: number): StepCoefficients | null {
    if (this.config.thresholding || this.learnsVariance) return null;
    return this.coefficients(timestep);
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, or noise or `sample_shape` is missing where needed. */
  step(
    modelOutput: Float32Array,
    timestep: number,
    sample: Float32Array,
    options: StepOptions = {},
  ): Required<StepOutput> {
    requireObject('the options of a step', options);
    requireArray('the model output', modelOutput);
    requireArray('the sample', sample);
    const coefficients = this.coefficients(timestep);
    if (!this.learnsVariance) return takeStep(coefficients, modelOutput, sample, options, this.config);
    const batch = options.sample_shape?.[0];
    if (batch === undefined || modelOutput.length !== 2 * sample.length)
      throw new InvalidArgumentError(
        `a learned variance needs the option sample_shape: [batch, channels, ...] and an output of ${2 * sample.length} values; got ${modelOutput.length} values${batch === undefined ? ' and no sample_shape' : ''}`,
      );
    const [mean, variance] = splitChannels(modelOutput, batch);
    const { prev_sample, pred_original_sample } = takeStep(coefficients, mean, sample, options, this.config);
    if (!this.needsNoise(timestep)) return { prev_sample, pred_original_sample };
    const deviation = this.learnedDeviation(timestep, variance);
    const { noise } = options;
    checkNoise(noise, sample.length);
    return {
      prev_sample: prev_sample.map((x, i) => x + Math.fround((deviation[i] as number) * (noise[i] as number))),
      pred_original_sample,
    };
  }

  /** True for the variance types 'learned' and 'learned_range'. */
  override get learnsVariance(): boolean {
    return this.config.variance_type === 'learned' || this.config.variance_type === 'learned_range';
  }

  /** Posterior mean, eq. 7 of Ho et al., written in the predicted clean sample. */
  private coefficients(timestep: number): StepCoefficients {
    const { alphaBar, alphaBarPrevious, alpha, beta } = this.alphasAround(timestep);
    const original = originalCoefficients(this.config, alphaBar, timestep);
    // At abar = 1 there is no noise yet: the mean is the predicted clean sample, and the fractions would be 0 / 0.
    const isClean = alphaBar === 1;
    return {
      originalFromSample: Math.fround(original.fromSample),
      originalFromOutput: Math.fround(original.fromOutput),
      clip: clipLimit(this.config),
      fromOriginal: isClean ? 1 : Math.fround((Math.sqrt(alphaBarPrevious) * beta) / (1 - alphaBar)),
      fromSample: isClean ? 0 : Math.fround((Math.sqrt(alpha) * (1 - alphaBarPrevious)) / (1 - alphaBar)),
      fromOutput: 0,
      fromNoise: this.needsNoise(timestep) && !this.learnsVariance ? Math.fround(this.fixedDeviation(timestep)) : 0,
    };
  }

  private alphasAround(timestep: number) {
    const alphaBar = this.alphaBarAt(timestep);
    const previous = this.previousTimestep(timestep);
    const alphaBarPrevious = previous >= 0 ? this.alphaBarAt(previous) : 1;
    const alpha = alphaBetween(alphaBar, alphaBarPrevious);
    return { alphaBar, alphaBarPrevious, alpha, beta: 1 - alpha };
  }

  /** beta-tilde of eq. 7, kept above 1e-20 because its logarithm may be taken. */
  private posteriorVariance(timestep: number): number {
    const { alphaBar, alphaBarPrevious, beta } = this.alphasAround(timestep);
    return alphaBar === 1 ? 1e-20 : Math.max(((1 - alphaBarPrevious) / (1 - alphaBar)) * beta, 1e-20);
  }

  private fixedDeviation(timestep: number): number {
    const large = this.config.variance_type === 'fixed_large' || this.config.variance_type === 'fixed_large_log';
    return Math.sqrt(large ? this.alphasAround(timestep).beta : this.posteriorVariance(timestep));
  }

  /** Nichol & Dhariwal 2021, eq. 15: between log beta-tilde and log beta; or the output itself as variance. */
  private learnedDeviation(timestep: number, output: Float32Array): Float32Array {
    if (this.config.variance_type === 'learned') return output.map(Math.sqrt);
    const low = Math.log(this.posteriorVariance(timestep));
    const high = Math.log(Math.max(this.alphasAround(timestep).beta, 1e-20));
    return output.map((value) => {
      const fraction = (value + 1) / 2;
      return Math.exp(0.5 * (fraction * high + (1 - fraction) * low));
    });
  }
}
