import { InvalidArgumentError } from '../../errors.ts';
import type { Complete, Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { parseSchedulerConfig, type SchedulerOptions, scheduleShape, spacedTimesteps } from '../schedule.ts';
import type { StepOutput } from '../steps.ts';
import { impossible } from './log-snr.ts';
import { checkStepCount } from './sigmas.ts';
import { Solver, sumOf, type Term } from './solver.ts';

/** Options of `PNDMScheduler`, with the names and defaults of diffusers. */
export interface PNDMOptions extends SchedulerOptions {
  /** Whether the first steps are multistep too, of a lower order, in place of Runge-Kutta; default false. */
  readonly skip_prk_steps?: boolean | undefined;
  /** Whether the last step ends at abar = 1, without noise; else at the abar of timestep 0. Default false. */
  readonly set_alpha_to_one?: boolean | undefined;
}

const pndmShape = {
  ...scheduleShape,
  skip_prk_steps: z._default(z.boolean(), false),
  set_alpha_to_one: z._default(z.boolean(), false),
} satisfies Fields<PNDMOptions>;

/** Adams-Bashforth's weights of the last noises, the newest first, in 24ths. */
const ADAMS_BASHFORTH = [[24], [36, -12], [46, -32, 10], [55, -59, 37, -9]];
/** Runge-Kutta's weights of the four evaluations of a step, in sixths. */
const RUNGE_KUTTA = [1, 2, 2, 1];

/**
 * Pseudo numerical methods (Liu et al. 2022, arXiv 2202.09778): three steps of Runge-Kutta with four evaluations of the model
 * each, then the linear multistep method of order 4. Config and numerics are those of diffusers' PNDMScheduler; a step goes
 * to the next timestep of the list, also where the spacing is uneven.
 *
 * @example
 * await generate({ scheduler: new PNDMScheduler({ skip_prk_steps: true }), num_inference_steps: 50 });
 */
export class PNDMScheduler extends Solver<Complete<PNDMOptions>> {
  readonly className: string = 'PNDMScheduler';
  /** Entries of `timesteps` that are evaluations of Runge-Kutta. */
  private rungeKuttaSteps = 0;
  /** Timesteps that half a step of Runge-Kutta spans. */
  private half = 0;
  /** Predicted noises, the newest first. */
  private noises: Float32Array[] = [];
  /** The noises within a step of Runge-Kutta, as terms of their mean. */
  private evaluations: Term[] = [];
  /** Where a step began that has several evaluations. */
  private start: Float32Array | undefined;

  /** @throws {ConfigError} when an option is wrong, or the model predicts the clean sample. */
  constructor(options: PNDMOptions = {}) {
    const config = parseSchedulerConfig('PNDMScheduler', pndmShape, options);
    super(config, config);
    if (config.prediction_type === 'sample')
      impossible('PNDMScheduler', "prediction_type 'sample' has no steps; 'epsilon' and 'v_prediction' have");
  }

  /** 50, or T where that is less. */
  override get usualSteps(): number {
    return Math.min(50, this.config.num_train_timesteps);
  }

  /** @throws {InvalidArgumentError} when the number of steps is not from 4 (2 with `skip_prk_steps`) to T. */
  override setTimesteps(count?: number, options: { timesteps?: readonly number[] | undefined } = {}): void {
    const { num_train_timesteps: T, skip_prk_steps } = this.config;
    if (options.timesteps) throw new InvalidArgumentError('PNDMScheduler takes no timesteps, only their number');
    const steps = count ?? T;
    checkStepCount('PNDMScheduler', steps, skip_prk_steps ? 2 : 4, T);
    const falling = spacedTimesteps(steps, this.config);
    const [first = 0, second = 0, third = 0, fourth = 0] = falling;
    const half = Math.floor(T / steps / 2);
    const rungeKutta = [first, second + half, second + half, second, second, third + half, third + half, third, third];
    this.rungeKuttaSteps = skip_prk_steps ? 0 : 12;
    const warm = skip_prk_steps
      ? [first, second, ...falling.slice(1)]
      : [...rungeKutta, fourth + half, fourth + half, fourth, ...falling.slice(3)];
    this.begin(warm);
    this.half = half;
    this.noises = [];
    this.evaluations = [];
    this.start = undefined;
  }

  override get stepStarts(): number[] {
    const { rungeKuttaSteps } = this;
    const isWithin = (index: number) =>
      index < rungeKuttaSteps ? index % 4 !== 0 : rungeKuttaSteps === 0 && index === 1;
    return super.stepStarts.filter((index) => !isWithin(index));
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, or the timestep is not due. */
  step(output: Float32Array, timestep: number, sample: Float32Array): StepOutput {
    const index = this.advance(timestep);
    return {
      prev_sample:
        index < this.rungeKuttaSteps ? this.rungeKutta(output, index, sample) : this.multistep(output, index, sample),
    };
  }

  private rungeKutta(output: Float32Array, index: number, sample: Float32Array): Float32Array {
    const part = index % 4;
    if (part === 0) {
      this.noises = [output, ...this.noises].slice(0, 3);
      this.start = sample;
      this.evaluations = [];
    }
    this.evaluations.push([(RUNGE_KUTTA[part] as number) / 6, output]);
    const timestep = this.timesteps[index] as number;
    const next = part % 2 === 0 ? timestep - this.half : timestep;
    const slope = part === 3 ? sumOf(...this.evaluations) : output;
    return this.transfer(this.start ?? sample, this.timesteps[index - part] as number, next, slope);
  }

  private multistep(output: Float32Array, index: number, sample: Float32Array): Float32Array {
    const timestep = this.timesteps[index] as number;
    const next = this.timesteps[index + 1] ?? -1;
    const [last] = this.noises;
    // The second evaluation repeats the first step with the mean of both slopes, as Heun's method does.
    if (this.start && last && this.rungeKuttaSteps === 0 && index === 1) {
      const start = this.start;
      this.start = undefined;
      return this.transfer(start, this.timesteps[index - 1] as number, timestep, sumOf([0.5, output], [0.5, last]));
    }
    this.noises = [output, ...this.noises].slice(0, 4);
    if (this.noises.length === 1) this.start = sample;
    const weights = ADAMS_BASHFORTH[this.noises.length - 1] ?? [];
    const slope = sumOf(...this.noises.map((noise, i): Term => [(weights[i] as number) / 24, noise]));
    return this.transfer(sample, timestep, next, slope);
  }

  /** Eq. 11 of the paper: from one timestep to another with a predicted noise. */
  private transfer(sample: Float32Array, from: number, to: number, output: Float32Array): Float32Array {
    const { prediction_type, set_alpha_to_one } = this.config;
    const bar = this.alphaBarAt(from);
    const next = to >= 0 ? this.alphaBarAt(to) : set_alpha_to_one ? 1 : this.alphaBarAt(0);
    if (bar === next) return sample.slice();
    const epsilon =
      prediction_type === 'v_prediction' ? sumOf([Math.sqrt(bar), output], [Math.sqrt(1 - bar), sample]) : output;
    const divisor = bar * Math.sqrt(1 - next) + Math.sqrt(bar * (1 - bar) * next);
    return sumOf([Math.sqrt(next / bar), sample], [-(next - bar) / divisor, epsilon]);
  }
}
