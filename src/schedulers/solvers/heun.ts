import type { Complete, Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { parseSchedulerConfig } from '../schedule.ts';
import type { StepOutput } from '../steps.ts';
import { SigmaSolver, type SpacedSigmaOptions, spacedSigmaShape } from './sigma.ts';
import { sumOf } from './solver.ts';

/** Options of `HeunDiscreteScheduler`, with the names and defaults of diffusers. */
export interface HeunDiscreteOptions extends SpacedSigmaOptions {
  /** The variance of the first step of the forward process, in [0, 1); default 0.00085. */
  readonly beta_start?: number | undefined;
  /** The variance of the last step, in [0, 1); default 0.012. */
  readonly beta_end?: number | undefined;
  /** Whether the predicted clean sample is clipped; default false. */
  readonly clip_sample?: boolean | undefined;
  /** The largest absolute value where it is clipped, above 0; default 1. */
  readonly clip_sample_range?: number | undefined;
}

const beta = z.number().check(z.gte(0), z.lt(1));
const heunShape = {
  ...spacedSigmaShape,
  beta_start: z._default(beta, 0.00085),
  beta_end: z._default(beta, 0.012),
  clip_sample: z._default(z.boolean(), false),
  clip_sample_range: z._default(z.number().check(z.positive()), 1),
} satisfies Fields<HeunDiscreteOptions>;

/**
 * Heun's method (Karras et al. 2022, algorithm 2 without churn): two evaluations of the model a step, but for the last. So N
 * steps ask the model 2 N - 1 times. Config and numerics are those of diffusers' HeunDiscreteScheduler.
 *
 * @example
 * await generate({ scheduler: new HeunDiscreteScheduler(), num_inference_steps: 15 });
 */
export class HeunDiscreteScheduler extends SigmaSolver<Complete<HeunDiscreteOptions>> {
  readonly className: string = 'HeunDiscreteScheduler';
  /** Euler's half of a step: where it began, and the slope there. Undefined before it. */
  private half: { readonly sample: Float32Array; readonly slope: Float32Array } | undefined;

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: HeunDiscreteOptions = {}) {
    super(parseSchedulerConfig('HeunDiscreteScheduler', heunShape, options));
  }

  /** @throws {InvalidArgumentError} when the number of steps is not from 1 to T, or a timestep is out of range. */
  override setTimesteps(count?: number, options: { timesteps?: readonly number[] | undefined } = {}): void {
    super.setTimesteps(count, options);
    const twice = (values: readonly number[]) => values.flatMap((value, i) => (i === 0 ? [value] : [value, value]));
    this.begin(twice(this.timesteps), [...twice(this.sigmas.slice(0, -1)), this.sigmas.at(-1) as number]);
    this.half = undefined;
  }

  override get stepStarts(): number[] {
    return super.stepStarts.filter((index) => index % 2 === 0);
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, or the timestep is not due. */
  step(output: Float32Array, timestep: number, sample: Float32Array): Required<StepOutput> {
    const index = this.advance(timestep);
    const { half } = this;
    const [sigma = 1, next = 0] = this.sigmas.slice(half ? index - 1 : index);
    const here = half ? next : sigma;
    const { clip_sample, clip_sample_range: limit } = this.config;
    const predicted = this.cleanSample(output, sample, here);
    const original = clip_sample ? predicted.map((x) => Math.min(Math.max(x, -limit), limit)) : predicted;
    const slope = sumOf([1 / here, sample], [-1 / here, original]);
    const width = next - sigma;
    this.half = half ? undefined : { sample, slope };
    const prev_sample = half
      ? sumOf([1, half.sample], [width / 2, half.slope], [width / 2, slope])
      : sumOf([1, sample], [width, slope]);
    return { prev_sample, pred_original_sample: original };
  }
}
