// DPM-Solver (Lu et al. 2022, arXiv 2206.00927) and DPM-Solver++ (arXiv 2211.01095), in several steps and in single ones.

import type { Complete, Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { VARIANCE_TYPES, type VarianceType } from '../ddpm.ts';
import { parseSchedulerConfig, roundHalfToEven } from '../schedule.ts';
import type { Scheduler } from '../scheduler.ts';
import type { StepOptions, StepOutput } from '../steps.ts';
import { checkNoise } from '../steps.ts';
import {
  type FinalSigmaOptions,
  finalSigmaShape,
  impossible,
  type Level,
  type LogSnrOptions,
  LogSnrSolver,
  logSnrShape,
} from './log-snr.ts';
import { exponentialSigmas } from './sigmas.ts';
import { sumOf, type Term } from './solver.ts';

const ALGORITHMS = ['dpmsolver++', 'dpmsolver', 'sde-dpmsolver++', 'sde-dpmsolver'] as const;
type Algorithm = (typeof ALGORITHMS)[number];

/** Options of both DPM solvers. */
interface DPMSolverOptions extends LogSnrOptions, FinalSigmaOptions {
  /**
   * 'dpmsolver++' (default) integrates the predicted clean sample, 'dpmsolver' the predicted noise; 'sde-' adds noise at
   * every step. 'dpmsolver' and 'sde-dpmsolver' need `final_sigmas_type: 'sigma_min'`.
   */
  readonly algorithm_type?: Algorithm | undefined;
  /** How the second order is approximated; default 'midpoint'. */
  readonly solver_type?: 'midpoint' | 'heun' | undefined;
  /** Timesteps whose log-SNR is below this are left out, for cosine schedules; default none, which is -Infinity. */
  readonly lambda_min_clipped?: number | null | undefined;
  /** DDPM's, kept in the config: these solvers have no use for it, nor for a variance that the model learns. Default null. */
  readonly variance_type?: VarianceType | null | undefined;
}

const dpmSolverShape = {
  ...logSnrShape,
  ...finalSigmaShape,
  algorithm_type: z._default(z.enum(ALGORITHMS), 'dpmsolver++'),
  solver_type: z._default(z.enum(['midpoint', 'heun']), 'midpoint'),
  lambda_min_clipped: z._default(z.nullable(z.union([z.number(), z.literal(Number.NEGATIVE_INFINITY)])), null),
  variance_type: z._default(z.nullable(z.enum(VARIANCE_TYPES)), null),
};

abstract class DPMSolver<Own extends Complete<DPMSolverOptions>> extends LogSnrSolver<Own> {
  constructor(config: Own) {
    super(config);
    const { algorithm_type, final_sigmas_type } = config;
    if (!algorithm_type.endsWith('++') && final_sigmas_type === 'zero')
      impossible(
        new.target.name,
        `algorithm_type '${algorithm_type}' needs final_sigmas_type 'sigma_min', since it divides by the last sigma`,
      );
  }

  /** Without `lambda_min_clipped` where it is not set: diffusers' own default, -Infinity, is not JSON. */
  override toConfig(): ReturnType<Scheduler['toConfig']> {
    const { lambda_min_clipped, ...config } = super.toConfig();
    return lambda_min_clipped == null ? config : { ...config, lambda_min_clipped };
  }

  protected get endsAtZero(): boolean {
    return this.config.final_sigmas_type === 'zero';
  }

  protected get integrates(): 'sample' | 'epsilon' {
    return this.config.algorithm_type.endsWith('++') ? 'sample' : 'epsilon';
  }

  override needsNoise(): boolean {
    return this.config.algorithm_type.startsWith('sde');
  }

  protected override largestTimestep(): number {
    const { lambda_min_clipped: least, num_train_timesteps: T } = this.config;
    if (least === null) return T - 1;
    const below = this.alphasCumprod.filter((alphaBar) => Math.log(alphaBar / (1 - alphaBar)) / 2 < least).length;
    return T - 1 - below;
  }

  /**
   * The step from one level to another: eq. 3.4 to 3.6 of DPM-Solver, algorithms 1 and 2 of DPM-Solver++ and its appendix on
   * the equation with noise.
   *
   * @param derivatives by lambda at the first level, in units of the step: of order 0, 1 and 2, as sums of the history.
   * @param asMidpoint whether the second order counts half the first, in place of its own integral.
   */
  protected solved(
    [from, to]: readonly [Level, Level],
    sample: Float32Array,
    derivatives: readonly (readonly Term[])[],
    { noise }: StepOptions,
    asMidpoint: boolean,
  ): StepOutput {
    // A spacing of sigmas ends at the last one twice.
    if (from.lambda === to.lambda) return { prev_sample: sample.slice() };
    const weights = expansion(this.config.algorithm_type, from, to);
    const [value, slope, curvature] = weights.derivatives;
    const integrals = asMidpoint ? [value, value / 2, 0] : [value, slope, curvature];
    const terms = derivatives.flatMap((terms, order) =>
      terms.map(([weight, values]): Term => [weight * (integrals[order] as number), values]),
    );
    if (!this.needsNoise()) return { prev_sample: sumOf([weights.sample, sample], ...terms) };
    checkNoise(noise, sample.length);
    return { prev_sample: sumOf([weights.sample, sample], ...terms, [weights.noise, noise]) };
  }
}

interface Expansion {
  readonly sample: number;
  /** Of the derivatives of order 0, 1 and 2 by lambda, the last two in units of the step. */
  readonly derivatives: readonly [number, number, number];
  readonly noise: number;
}

function expansion(algorithm: Algorithm, from: Level, to: Level): Expansion {
  const h = to.lambda - from.lambda;
  switch (algorithm) {
    case 'dpmsolver++': {
      const e = Math.expm1(-h);
      return {
        sample: to.sigma / from.sigma,
        derivatives: [-to.alpha * e, to.alpha * (e / h + 1), -to.alpha * ((e + h) / h ** 2 - 0.5)],
        noise: 0,
      };
    }
    case 'dpmsolver': {
      const e = Math.expm1(h);
      return {
        sample: to.alpha / from.alpha,
        derivatives: [-to.sigma * e, -to.sigma * (e / h - 1), -to.sigma * ((e - h) / h ** 2 - 0.5)],
        noise: 0,
      };
    }
    case 'sde-dpmsolver++': {
      const e = -Math.expm1(-2 * h);
      return {
        sample: (to.sigma / from.sigma) * Math.exp(-h),
        derivatives: [to.alpha * e, to.alpha * (1 - e / (2 * h)), to.alpha * ((e - 2 * h) / (2 * h) ** 2 - 0.5)],
        noise: to.sigma * Math.sqrt(e),
      };
    }
    case 'sde-dpmsolver': {
      const e = Math.expm1(h);
      return {
        sample: to.alpha / from.alpha,
        derivatives: [-2 * to.sigma * e, -2 * to.sigma * (e / h - 1), Number.NaN],
        noise: to.sigma * Math.sqrt(Math.expm1(2 * h)),
      };
    }
  }
}

/** Options of `DPMSolverMultistepScheduler`, with the names and defaults of diffusers. */
export interface DPMSolverMultistepOptions extends DPMSolverOptions {
  /** Whether the last step is of the first order, however many there are; default false. */
  readonly euler_at_final?: boolean | undefined;
  /** Spaces log-SNR evenly, as Lu et al. do; default false. */
  readonly use_lu_lambdas?: boolean | undefined;
}

const multistepShape = {
  ...dpmSolverShape,
  euler_at_final: z._default(z.boolean(), false),
  use_lu_lambdas: z._default(z.boolean(), false),
} satisfies Fields<DPMSolverMultistepOptions>;

/**
 * DPM-Solver and DPM-Solver++ that look back at the steps before: one evaluation of the model a step. 20 steps are the usual
 * number. Config and numerics are those of diffusers' DPMSolverMultistepScheduler.
 *
 * @example
 * const scheduler = new DPMSolverMultistepScheduler({ use_karras_sigmas: true });
 * await generate({ scheduler, num_inference_steps: 20 });
 */
export class DPMSolverMultistepScheduler extends DPMSolver<Complete<DPMSolverMultistepOptions>> {
  readonly className: string = 'DPMSolverMultistepScheduler';

  /** @throws {ConfigError} when an option is wrong, or the algorithm has no steps of the order. */
  constructor(options: DPMSolverMultistepOptions = {}) {
    super(parseSchedulerConfig('DPMSolverMultistepScheduler', multistepShape, options));
    const { algorithm_type, solver_order } = this.config;
    if (algorithm_type === 'sde-dpmsolver' && solver_order === 3)
      impossible('DPMSolverMultistepScheduler', "algorithm_type 'sde-dpmsolver' has no steps of solver_order 3");
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, noise or `sample_shape` is missing, or a timestep is not due. */
  step(output: Float32Array, timestep: number, sample: Float32Array, options: StepOptions = {}): StepOutput {
    const index = this.advance(timestep);
    this.remember(this.converted(output, sample, index, options));
    const [m0 = output, m1 = m0, m2 = m1] = this.history;
    const [to, s0] = [this.level(index + 1), this.level(index)];
    const order = this.orderAt(index);
    const asMidpoint = order < 3 && this.config.solver_type === 'midpoint';
    const solve = (...derivatives: Term[][]) => this.solved([s0, to], sample, derivatives, options, asMidpoint);
    if (order === 1) return solve([[1, m0]]);
    const h = to.lambda - s0.lambda;
    const s1 = this.level(index - 1);
    const r0 = (s0.lambda - s1.lambda) / h;
    if (order === 2)
      return solve(
        [[1, m0]],
        [
          [1 / r0, m0],
          [-1 / r0, m1],
        ],
      );
    const r1 = (s1.lambda - this.level(index - 2).lambda) / h;
    // Divided differences over the last two intervals: D1 at s0 and its change.
    const [near, far] = [1 / r0, 1 / r1];
    const change = 1 / (r0 + r1);
    const d1 = 1 + r0 * change;
    return solve(
      [[1, m0]],
      [
        [d1 * near, m0],
        [-d1 * near - r0 * change * far, m1],
        [r0 * change * far, m2],
      ],
      [
        [change * near, m0],
        [-change * (near + far), m1],
        [change * far, m2],
      ],
    );
  }

  protected override spaced(training: readonly number[], count: number): number[] | undefined {
    if (!this.config.use_lu_lambdas) return super.spaced(training, count);
    return exponentialSigmas(training.at(-1) as number, training[0] as number, count);
  }

  /** Cosine schedules keep the fraction of a timestep that Karras's and Lu's spacings give. */
  protected override wholeTimestep(timestep: number): number {
    const { use_exponential_sigmas, beta_schedule } = this.config;
    return use_exponential_sigmas || beta_schedule === 'squaredcos_cap_v2'
      ? Math.trunc(timestep)
      : roundHalfToEven(timestep);
  }

  /** As many steps as there are before limit the order; the end of a short process, or one at sigma 0, lowers it. */
  private orderAt(index: number): number {
    const { solver_order, lower_order_final, euler_at_final, final_sigmas_type } = this.config;
    const left = this.timesteps.length - index;
    const lowers = lower_order_final && this.timesteps.length < 15;
    if (left === 1 && (lowers || euler_at_final || final_sigmas_type === 'zero')) return 1;
    return Math.min(solver_order, this.history.length, left === 2 && lowers ? 2 : 3);
  }
}

/** Options of `DPMSolverSinglestepScheduler`, with the names and defaults of diffusers; `timestep_spacing` has no effect. */
export interface DPMSolverSinglestepOptions extends DPMSolverOptions {
  readonly algorithm_type?: Exclude<Algorithm, 'sde-dpmsolver'> | undefined;
}

const singlestepShape = {
  ...dpmSolverShape,
  algorithm_type: z._default(z.enum(['dpmsolver++', 'dpmsolver', 'sde-dpmsolver++']), 'dpmsolver++'),
} satisfies Fields<DPMSolverSinglestepOptions>;

/**
 * DPM-Solver and DPM-Solver++ whose steps of order 2 and 3 are made of as many evaluations of the model, each counted as a
 * step. Config and numerics are those of diffusers' DPMSolverSinglestepScheduler.
 *
 * @example
 * await generate({ scheduler: new DPMSolverSinglestepScheduler({ solver_order: 3 }), num_inference_steps: 21 });
 */
export class DPMSolverSinglestepScheduler extends DPMSolver<Complete<DPMSolverSinglestepOptions>> {
  readonly className: string = 'DPMSolverSinglestepScheduler';
  /** The order of each step: within a group it rises from 1, and all steps of the group start where its first did. */
  private orders: number[] = [];
  private start: Float32Array | undefined;

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: DPMSolverSinglestepOptions = {}) {
    // It has timesteps of its own, whatever the config of another scheduler says.
    const own = { ...options, timestep_spacing: 'linspace', steps_offset: 0 };
    super(parseSchedulerConfig('DPMSolverSinglestepScheduler', singlestepShape, own));
  }

  /** @throws {InvalidArgumentError} as the solvers in several steps. */
  override setTimesteps(count?: number, options: { timesteps?: readonly number[] | undefined } = {}): void {
    super.setTimesteps(count, options);
    this.start = undefined;
    this.orders = this.ordersOf(this.timesteps.length);
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, noise or `sample_shape` is missing, or a timestep is not due. */
  step(output: Float32Array, timestep: number, sample: Float32Array, options: StepOptions = {}): StepOutput {
    const index = this.advance(timestep);
    this.remember(this.converted(output, sample, index, options));
    // A process that begins within a group has no start of it.
    const order = Math.min(this.orders[index] ?? 1, this.history.length);
    if (order === 1) this.start = sample;
    const [m0 = output, m1 = m0, m2 = m1] = this.history;
    const [to, from] = [this.level(index + 1), this.level(index + 1 - order)];
    const h = to.lambda - from.lambda;
    const asMidpoint = order < 3 && this.config.solver_type === 'midpoint';
    const solve = (...derivatives: Term[][]) =>
      this.solved([from, to], this.start ?? sample, derivatives, options, asMidpoint);
    if (order === 1) return solve([[1, m0]]);
    const r0 = (this.level(index).lambda - from.lambda) / h;
    if (order === 2)
      return solve(
        [[1, m1]],
        [
          [1 / r0, m0],
          [-1 / r0, m1],
        ],
      );
    const r1 = (this.level(index - 1).lambda - from.lambda) / h;
    if (this.config.solver_type === 'midpoint')
      return solve(
        [[1, m2]],
        [
          [1 / r0, m0],
          [-1 / r0, m2],
        ],
      );
    const width = r0 - r1;
    return solve(
      [[1, m2]],
      [
        [-r1 / (r0 * width), m0],
        [r0 / (r1 * width), m1],
        [(r1 / r0 - r0 / r1) / width, m2],
      ],
      [
        [2 / (r0 * width), m0],
        [-2 / (r1 * width), m1],
        [(2 / r1 - 2 / r0) / width, m2],
      ],
    );
  }

  /**
   * Groups of steps of rising order, the last ones of a lower order where `count` is no multiple of it. diffusers turns
   * `lower_order_final` on for such a count, and for a process that ends at sigma 0.
   */
  private ordersOf(count: number): number[] {
    const { solver_order: order, lower_order_final, final_sigmas_type } = this.config;
    const rest = count % order;
    const lowers = lower_order_final || rest !== 0 || final_sigmas_type === 'zero';
    const full = Array.from({ length: count }, (_, i) => (i % order) + 1);
    if (lowers && rest === 0 && order > 1) full.splice(-order, order, ...(order === 3 ? [1, 2, 1] : [1, 1]));
    if (final_sigmas_type === 'zero') full[count - 1] = 1;
    return full;
  }
}
