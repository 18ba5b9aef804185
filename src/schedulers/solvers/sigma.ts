// Solvers of the equation in sigma (Karras et al. 2022): the sample is x_t / alpha_t = x_0 + sigma eps, so that
// dx / d sigma = eps. The model is given x / sqrt(sigma^2 + 1).

import { InvalidArgumentError } from '../../errors.ts';
import type { Complete, Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { checkTimesteps, type SchedulerOptions, scheduleShape } from '../schedule.ts';
import type { NoiseLevel } from '../steps.ts';
import {
  checkStepCount,
  exponentialSigmas,
  type SigmaOptions,
  sigmaAt,
  sigmaShape,
  timestepOf,
  timestepsToZero,
  trainingSigmas,
} from './sigmas.ts';
import { Solver, sumOf } from './solver.ts';

/** Options of every solver in sigma. `timestep_spacing` is 'linspace' by default, with fractions of timesteps. */
export interface SigmaSolverOptions extends SchedulerOptions {}

export const sigmaSolverShape = {
  ...scheduleShape,
  timestep_spacing: z._default(z.enum(['leading', 'trailing', 'linspace']), 'linspace'),
} satisfies Fields<SigmaSolverOptions>;

/** Options of the solvers in sigma that can space the sigmas. */
export interface SpacedSigmaOptions extends SigmaSolverOptions, SigmaOptions {}

export const spacedSigmaShape = { ...sigmaSolverShape, ...sigmaShape } satisfies Fields<SpacedSigmaOptions>;

/** What may be in a config of some of these solvers only. */
interface OwnSpacing {
  readonly sigma_min?: number | null;
  readonly sigma_max?: number | null;
  readonly final_sigmas_type?: 'zero' | 'sigma_min';
  readonly interpolation_type?: 'linear' | 'log_linear';
}

export abstract class SigmaSolver<Own extends Complete<SigmaSolverOptions> & OwnSpacing> extends Solver<Own> {
  constructor(config: Own & SchedulerOptions) {
    super(config, config);
  }

  /**
   * @throws {InvalidArgumentError} when the number of steps is not from 1 to T, `steps_offset` leads beyond T, or timesteps
   * are given with a spacing of sigmas.
   */
  override setTimesteps(
    num_inference_steps?: number | undefined,
    { timesteps }: { timesteps?: readonly number[] | undefined } = {},
  ): void {
    const { num_train_timesteps: T, sigma_min, sigma_max, interpolation_type } = this.config;
    const count = timesteps?.length ?? num_inference_steps ?? T;
    if (!timesteps) checkStepCount(this.className, count, 1, T);
    const visited = timesteps ? checkTimesteps(timesteps, T) : timestepsToZero(count, this.config);
    const training = trainingSigmas(this.alphasCumprod);
    const [smallest, largest] = [training[0] as number, training.at(-1) as number];
    const atTimesteps =
      interpolation_type === 'log_linear'
        ? exponentialSigmas(largest, smallest, count + 1).slice(0, count)
        : visited.map((timestep) => sigmaAt(training, timestep));
    const range = [sigma_max ?? atTimesteps[0] ?? largest, sigma_min ?? atTimesteps.at(-1) ?? smallest] as const;
    const spaced = this.spacedSigmas(...range, count);
    if (spaced && timesteps) throw new InvalidArgumentError('timesteps cannot be given where the config spaces sigmas');
    const end = this.config.final_sigmas_type === 'sigma_min' ? smallest : 0;
    this.begin(spaced?.map((sigma) => timestepOf(training, sigma)) ?? visited, [...(spaced ?? atTimesteps), end]);
    const first = this.sigmas[0] as number;
    // 'leading' starts below T - 1, where something of the signal is left.
    this.init_noise_sigma = this.config.timestep_spacing === 'leading' ? Math.hypot(first, 1) : first;
  }

  override noiseLevel(index: number): NoiseLevel {
    return { signal: 1, noise: this.sigmas[index] as number };
  }

  /** x / sqrt(sigma^2 + 1): of variance 1, as in training. @throws {InvalidArgumentError} when the timestep is not due. */
  override scaleModelInput(sample: Float32Array, timestep: number): Float32Array {
    const sigma = this.sigmas[this.place(timestep)] as number;
    return sumOf([1 / Math.hypot(sigma, 1), sample]);
  }

  /** The clean sample that the output stands for at a sigma. */
  protected cleanSample(output: Float32Array, sample: Float32Array, sigma: number): Float32Array {
    switch (this.config.prediction_type) {
      case 'epsilon':
        return sumOf([1, sample], [-sigma, output]);
      case 'v_prediction':
        return sumOf([1 / (sigma * sigma + 1), sample], [-sigma / Math.hypot(sigma, 1), output]);
      case 'sample':
        return sumOf([1, output]);
    }
  }
}
