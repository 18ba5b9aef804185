import type { Complete, Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { parseSchedulerConfig } from '../schedule.ts';
import { checkNoise, type StepOptions, type StepOutput } from '../steps.ts';
import {
  SigmaSolver,
  type SigmaSolverOptions,
  type SpacedSigmaOptions,
  sigmaSolverShape,
  spacedSigmaShape,
} from './sigma.ts';
import { sumOf } from './solver.ts';

/** Options of `EulerDiscreteScheduler`, with the names and defaults of diffusers. */
export interface EulerDiscreteOptions extends SpacedSigmaOptions {
  /** How sigmas lie between those of training: 'linear' (default), or evenly in log sigma ('log_linear'). */
  readonly interpolation_type?: 'linear' | 'log_linear' | undefined;
  /** The smallest sigma of a spacing, above 0; default null: that of the last timestep. */
  readonly sigma_min?: number | null | undefined;
  /** The largest sigma of a spacing, above 0; default null: that of the first timestep. */
  readonly sigma_max?: number | null | undefined;
  /** What the model is told of the time; default 'discrete', its timestep, the only one. */
  readonly timestep_type?: 'discrete' | undefined;
  /** Where the process ends: at sigma 0 ('zero', default) or at that of timestep 0 ('sigma_min'). */
  readonly final_sigmas_type?: 'zero' | 'sigma_min' | undefined;
}

const eulerShape = {
  ...spacedSigmaShape,
  interpolation_type: z._default(z.enum(['linear', 'log_linear']), 'linear'),
  sigma_min: z._default(z.nullable(z.number().check(z.positive())), null),
  sigma_max: z._default(z.nullable(z.number().check(z.positive())), null),
  timestep_type: z._default(z.literal('discrete'), 'discrete'),
  final_sigmas_type: z._default(z.enum(['zero', 'sigma_min']), 'zero'),
} satisfies Fields<EulerDiscreteOptions>;

/**
 * Euler's method (Karras et al. 2022, algorithm 2 without churn). Config and numerics are those of diffusers'
 * EulerDiscreteScheduler.
 *
 * @example
 * await generate({ scheduler: new EulerDiscreteScheduler(), num_inference_steps: 30 });
 */
export class EulerDiscreteScheduler extends SigmaSolver<Complete<EulerDiscreteOptions>> {
  readonly className: string = 'EulerDiscreteScheduler';

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: EulerDiscreteOptions = {}) {
    super(parseSchedulerConfig('EulerDiscreteScheduler', eulerShape, options));
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, or the timestep is not due. */
  step(output: Float32Array, timestep: number, sample: Float32Array): Required<StepOutput> {
    const index = this.advance(timestep);
    const [sigma = 1, next = 0] = this.sigmas.slice(index);
    const original = this.cleanSample(output, sample, sigma);
    return { prev_sample: towards(original, sample, next / sigma), pred_original_sample: original };
  }
}

/** x + (x - x_0) / sigma (next - sigma): the sample at `ratio` times its sigma, on the line to the clean sample. */
function towards(original: Float32Array, sample: Float32Array, ratio: number): Float32Array {
  return sumOf([ratio, sample], [1 - ratio, original]);
}

/** Options of `EulerAncestralDiscreteScheduler`, with the names and defaults of diffusers. */
export interface EulerAncestralDiscreteOptions extends SigmaSolverOptions {}

/**
 * Euler's method to below the next sigma, and fresh noise up to it (ancestral sampling, as in k-diffusion). Config and
 * numerics are those of diffusers' EulerAncestralDiscreteScheduler.
 *
 * @example
 * await generate({ scheduler: new EulerAncestralDiscreteScheduler(), num_inference_steps: 30 });
 */
export class EulerAncestralDiscreteScheduler extends SigmaSolver<Complete<EulerAncestralDiscreteOptions>> {
  readonly className: string = 'EulerAncestralDiscreteScheduler';

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: EulerAncestralDiscreteOptions = {}) {
    super(parseSchedulerConfig('EulerAncestralDiscreteScheduler', sigmaSolverShape, options));
  }

  override needsNoise(): boolean {
    return true;
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, noise is missing, or the timestep is not due. */
  step(
    output: Float32Array,
    timestep: number,
    sample: Float32Array,
    { noise }: StepOptions = {},
  ): Required<StepOutput> {
    const index = this.advance(timestep);
    checkNoise(noise, sample.length);
    const [sigma = 1, next = 0] = this.sigmas.slice(index);
    // The variances of the part that is kept and of the fresh noise add up to that of the next sigma.
    const up = (next / sigma) * Math.sqrt(sigma * sigma - next * next);
    const down = (next * next) / sigma;
    const original = this.cleanSample(output, sample, sigma);
    const ratio = down / sigma;
    return { prev_sample: sumOf([ratio, sample], [1 - ratio, original], [up, noise]), pred_original_sample: original };
  }
}
