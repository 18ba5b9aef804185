import { InvalidArgumentError } from '../../errors.ts';
import type { Complete, Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { parseSchedulerConfig, type SchedulerOptions, scheduleShape, spacedTimesteps } from '../schedule.ts';
import { type NoiseLevel, noiseCoefficients, originalCoefficients, type StepOutput } from '../steps.ts';
import { Solver, sumOf } from './solver.ts';

/** Options of `DDIMInverseScheduler`, with the names and defaults of diffusers. */
export interface DDIMInverseOptions extends SchedulerOptions {
  /** Whether the predicted clean sample is clipped; default true. An inversion is exact only without. */
  readonly clip_sample?: boolean | undefined;
  /** The largest absolute value where it is clipped, above 0; default 1. */
  readonly clip_sample_range?: number | undefined;
  /** Whether the image is at abar = 1, without noise (default), else at the abar of timestep 0. */
  readonly set_alpha_to_one?: boolean | undefined;
}

const ddimInverseShape = {
  ...scheduleShape,
  timestep_spacing: z._default(z.enum(['leading', 'trailing', 'linspace']), 'leading'),
  clip_sample: z._default(z.boolean(), true),
  clip_sample_range: z._default(z.number().check(z.positive()), 1),
  set_alpha_to_one: z._default(z.boolean(), true),
} satisfies Fields<DDIMInverseOptions>;

/**
 * DDIM backwards: from a sample to the noise that DDIM draws it from (Song et al. 2021, section 4.3). `timesteps` rise. Config
 * and numerics are those of diffusers' DDIMInverseScheduler.
 *
 * @example
 * const scheduler = new DDIMInverseScheduler({ clip_sample: false });
 * scheduler.setTimesteps(50);
 */
export class DDIMInverseScheduler extends Solver<Complete<DDIMInverseOptions>> {
  readonly className: string = 'DDIMInverseScheduler';

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: DDIMInverseOptions = {}) {
    const config = parseSchedulerConfig('DDIMInverseScheduler', ddimInverseShape, options);
    super(config, config);
  }

  /** @throws {InvalidArgumentError} when the number of steps is not from 1 to T, or timesteps are given. */
  override setTimesteps(count?: number, options: { timesteps?: readonly number[] | undefined } = {}): void {
    if (options.timesteps) throw new InvalidArgumentError('DDIMInverseScheduler takes no timesteps, only their number');
    const rising = spacedTimesteps(count ?? this.config.num_train_timesteps, this.config).reverse();
    this.begin(rising);
  }

  /** Each step takes the sample of the timestep before, the first one the clean sample. */
  override noiseLevel(index: number): NoiseLevel {
    return index === 0 ? { signal: 1, noise: 0 } : super.noiseLevel(index - 1);
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, or the timestep is not due. */
  step(output: Float32Array, timestep: number, sample: Float32Array): Required<StepOutput> {
    const index = this.advance(timestep);
    const { set_alpha_to_one, prediction_type, clip_sample, clip_sample_range: limit } = this.config;
    const before = this.timesteps[index - 1];
    const bar = before === undefined ? (set_alpha_to_one ? 1 : this.alphaBarAt(0)) : this.alphaBarAt(before);
    const next = this.alphaBarAt(timestep);
    const toOriginal = originalCoefficients({ ...this.config, thresholding: false }, bar, before ?? timestep);
    const toNoise = noiseCoefficients(prediction_type, bar);
    const predicted = sumOf([toOriginal.fromSample, sample], [toOriginal.fromOutput, output]);
    const original = clip_sample ? predicted.map((x) => Math.min(Math.max(x, -limit), limit)) : predicted;
    const epsilon = sumOf([toNoise.fromSample, sample], [toNoise.fromOutput, output]);
    return {
      prev_sample: sumOf([Math.sqrt(next), original], [Math.sqrt(1 - next), epsilon]),
      pred_original_sample: original,
    };
  }
}
