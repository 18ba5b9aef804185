import type { Complete, Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { parseSchedulerConfig } from '../schedule.ts';
import type { StepOptions, StepOutput } from '../steps.ts';
import { type LogSnrOptions, LogSnrSolver, logSnrShape } from './log-snr.ts';
import { sumOf, type Term } from './solver.ts';

/** Options of `DEISMultistepScheduler`, with the names and defaults of diffusers. */
export interface DEISMultistepOptions extends LogSnrOptions {
  /** The only algorithm; default 'deis'. */
  readonly algorithm_type?: 'deis' | undefined;
  /** The polynomials are in log rho; default 'logrho', the only one. */
  readonly solver_type?: 'logrho' | undefined;
}

const deisShape = {
  ...logSnrShape,
  algorithm_type: z._default(z.literal('deis'), 'deis'),
  solver_type: z._default(z.literal('logrho'), 'logrho'),
} satisfies Fields<DEISMultistepOptions>;

/**
 * DEIS (Zhang & Chen 2023, arXiv 2204.13902), the variant rho-AB in log rho: a polynomial through the last predictions of the
 * noise is integrated exactly. Ends at the sigma of timestep 0. Config and numerics are those of diffusers'
 * DEISMultistepScheduler.
 *
 * @example
 * await generate({ scheduler: new DEISMultistepScheduler(), num_inference_steps: 20 });
 */
export class DEISMultistepScheduler extends LogSnrSolver<Complete<DEISMultistepOptions>> {
  readonly className: string = 'DEISMultistepScheduler';
  protected readonly endsAtZero = false;
  protected readonly integrates = 'epsilon';

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: DEISMultistepOptions = {}) {
    super(parseSchedulerConfig('DEISMultistepScheduler', deisShape, options));
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, `sample_shape` is missing, or a timestep is not due. */
  step(output: Float32Array, timestep: number, sample: Float32Array, options: StepOptions = {}): StepOutput {
    const index = this.advance(timestep);
    this.remember(this.converted(output, sample, index, options));
    const { solver_order, lower_order_final } = this.config;
    const left = this.timesteps.length - index;
    const lowers = lower_order_final && this.timesteps.length < 15;
    const order = Math.min(solver_order, this.history.length, lowers ? left : solver_order);
    // rho = sigma / alpha is the sigma of the schedule.
    const rhos = Array.from({ length: order }, (_, i) => this.sigmas[index - i] as number);
    const [from, to] = [this.level(index), this.level(index + 1)];
    const end = this.sigmas[index + 1] as number;
    const terms = this.history
      .slice(0, order)
      .map((epsilon, i): Term => [to.alpha * lagrangeIntegral(rhos, i, end), epsilon]);
    return { prev_sample: sumOf([to.alpha / from.alpha, sample], ...terms) };
  }
}

/**
 * The integral over rho, from rhos[0] to `end`, of the polynomial in log rho that is 1 at rhos[which] and 0 at the others.
 * With u = log rho the integrand is a polynomial times e^u, whose integral is e^u (p - p' + p'' ...).
 */
function lagrangeIntegral(rhos: readonly number[], which: number, end: number): number {
  const nodes = rhos.filter((_, i) => i !== which).map(Math.log);
  const own = Math.log(rhos[which] as number);
  const scale = nodes.reduce((product, node) => product * (own - node), 1);
  const [a = 0, b = 0] = nodes;
  const primitive = (rho: number) => {
    if (rho === 0) return 0;
    const u = Math.log(rho);
    if (nodes.length === 0) return rho;
    if (nodes.length === 1) return rho * (u - a - 1);
    return rho * ((u - a) * (u - b) - (2 * u - a - b) + 2);
  };
  return (primitive(end) - primitive(rhos[0] as number)) / scale;
}
