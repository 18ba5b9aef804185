// Solvers of the equation in lambda = log(alpha / sigma), half the logarithm of the signal-to-noise ratio: DPM-Solver,
// UniPC and DEIS. x_t = alpha_t x_0 + sigma_t eps with alpha^2 + sigma^2 = 1.

import { ConfigError, InvalidArgumentError } from '../../errors.ts';
import type { Complete, Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { checkTimesteps, roundHalfToEven, type SchedulerOptions, scheduleShape } from '../schedule.ts';
import { type NoiseLevel, noiseCoefficients, type StepOptions, threshold } from '../steps.ts';
import {
  checkStepCount,
  type SigmaOptions,
  sigmaAt,
  sigmaShape,
  timestepOf,
  timestepsBeforeZero,
  trainingSigmas,
} from './sigmas.ts';
import { Solver, sumOf } from './solver.ts';

/** Options of the solvers in log-SNR, with the names and defaults of diffusers. `timestep_spacing` is 'linspace'. */
export interface LogSnrOptions extends SchedulerOptions, SigmaOptions {
  /** The order of the solver, 1 to 3; default 2. Diffusers recommends 3 for unconditional models. */
  readonly solver_order?: number | undefined;
  /** Dynamic thresholding (Saharia et al. 2022) of the predicted clean sample, for models of pixels; default false. */
  readonly thresholding?: boolean | undefined;
  /** The quantile of the absolute values that dynamic thresholding clips to, 0 to 1; default 0.995. */
  readonly dynamic_thresholding_ratio?: number | undefined;
  /** The largest value that dynamic thresholding clips to, above 0; default 1. */
  readonly sample_max_value?: number | undefined;
  /** Whether the last steps of a process of fewer than 15 steps are of a lower order; default true. */
  readonly lower_order_final?: boolean | undefined;
}

/** Options of the solvers that can end without noise. */
export interface FinalSigmaOptions {
  /** Where the process ends: at sigma 0 ('zero', default) or at that of timestep 0 ('sigma_min'). */
  readonly final_sigmas_type?: 'zero' | 'sigma_min' | undefined;
}

export const logSnrShape = {
  ...scheduleShape,
  ...sigmaShape,
  timestep_spacing: z._default(z.enum(['leading', 'trailing', 'linspace']), 'linspace'),
  solver_order: z._default(z.int().check(z.gte(1), z.lte(3)), 2),
  thresholding: z._default(z.boolean(), false),
  dynamic_thresholding_ratio: z._default(z.number().check(z.gte(0), z.lte(1)), 0.995),
  sample_max_value: z._default(z.number().check(z.positive()), 1),
  lower_order_final: z._default(z.boolean(), true),
  // Of diffusers, and not built here.
  use_flow_sigmas: z._default(z.literal(false), false),
} satisfies Fields<LogSnrOptions> & Record<string, z.ZodMiniType>;

export const finalSigmaShape = {
  final_sigmas_type: z._default(z.enum(['zero', 'sigma_min']), 'zero'),
} satisfies Fields<FinalSigmaOptions>;

/** A point of the schedule. */
export interface Level {
  readonly alpha: number;
  readonly sigma: number;
  readonly lambda: number;
}

export abstract class LogSnrSolver<Own extends Complete<LogSnrOptions>> extends Solver<Own> {
  /** What the model's outputs stood for, the newest first. */
  protected history: Float32Array[] = [];

  constructor(config: Own & SchedulerOptions) {
    super(config, config);
  }

  /** Whether the process ends at sigma 0, else at that of timestep 0. */
  protected abstract readonly endsAtZero: boolean;
  /** What the solver integrates: the predicted clean sample, or the predicted noise. */
  protected abstract readonly integrates: 'sample' | 'epsilon';

  /**
   * @throws {InvalidArgumentError} when the number of steps is not from 1 to T - 1, `steps_offset` leads beyond T, or
   * timesteps are given with a spacing of sigmas.
   */
  override setTimesteps(
    num_inference_steps?: number | undefined,
    { timesteps }: { timesteps?: readonly number[] | undefined } = {},
  ): void {
    const { num_train_timesteps: T, use_karras_sigmas, use_exponential_sigmas } = this.config;
    const training = trainingSigmas(this.alphasCumprod);
    const last = this.largestTimestep();
    this.history = [];
    if (timesteps && (use_karras_sigmas || use_exponential_sigmas))
      throw new InvalidArgumentError('timesteps cannot be given where the config spaces sigmas');
    const count = timesteps?.length ?? num_inference_steps ?? Math.min(T - 1, last);
    if (!timesteps) checkStepCount(this.className, count, 1, Math.max(1, T - 1));
    let visited = timesteps ? checkTimesteps(timesteps, T) : timestepsBeforeZero(count, this.config, last);
    const spaced = this.spaced(training, count);
    if (spaced) visited = spaced.map((sigma) => this.wholeTimestep(timestepOf(training, sigma)));
    const sigmas = spaced ?? visited.map((timestep) => sigmaAt(training, timestep));
    this.begin(visited, [...sigmas, this.endsAtZero ? 0 : (training[0] as number)]);
  }

  /** The sigmas where the config spaces them. */
  protected spaced(training: readonly number[], count: number): number[] | undefined {
    return this.spacedSigmas(training.at(-1) as number, training[0] as number, count);
  }

  /** The largest timestep that is used; default T - 1. */
  protected largestTimestep(): number {
    return this.config.num_train_timesteps - 1;
  }

  /** The timestep that the model is asked at for a spaced sigma: rounded for Karras's, else cut, as in diffusers. */
  protected wholeTimestep(timestep: number): number {
    return this.config.use_exponential_sigmas ? Math.trunc(timestep) : roundHalfToEven(timestep);
  }

  override noiseLevel(index: number): NoiseLevel {
    const { alpha, sigma } = this.level(index);
    return { signal: alpha, noise: sigma };
  }

  /** The schedule at an entry of `sigmas`. */
  protected level(index: number): Level {
    const noise = this.sigmas[index] as number;
    const alpha = 1 / Math.sqrt(noise * noise + 1);
    return { alpha, sigma: noise * alpha, lambda: -Math.log(noise) };
  }

  /** What the model's output stands for, as `integrates` says. */
  protected converted(
    output: Float32Array,
    sample: Float32Array,
    index: number,
    { sample_shape }: StepOptions,
  ): Float32Array {
    const { alpha, sigma } = this.level(index);
    const { thresholding, prediction_type } = this.config;
    if (this.integrates === 'epsilon' && !thresholding) {
      const { fromSample, fromOutput } = noiseCoefficients(prediction_type, alpha * alpha);
      return sumOf([fromSample, sample], [fromOutput, output]);
    }
    const clean = cleanSample(prediction_type, output, sample, alpha, sigma);
    const original = thresholding ? threshold(clean, sample_shape, this.config) : clean;
    if (this.integrates === 'sample') return original;
    return sumOf([1 / sigma, sample], [-alpha / sigma, original]);
  }

  /** Puts what an output stands for before those of the steps before it, of which as many are kept as the order needs. */
  protected remember(converted: Float32Array): void {
    this.history = [converted, ...this.history].slice(0, this.config.solver_order);
  }
}

function cleanSample(
  type: 'epsilon' | 'sample' | 'v_prediction',
  output: Float32Array,
  sample: Float32Array,
  alpha: number,
  sigma: number,
): Float32Array {
  if (type === 'sample') return sumOf([1, output]);
  return type === 'epsilon'
    ? sumOf([1 / alpha, sample], [-sigma / alpha, output])
    : sumOf([alpha, sample], [-sigma, output]);
}

/** @throws {ConfigError} always: a combination of options that has no steps. */
export function impossible(className: string, why: string): never {
  throw new ConfigError(`wrong ${className} config: ${why}`);
}
