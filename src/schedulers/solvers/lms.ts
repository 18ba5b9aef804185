import type { Complete } from '../../options.ts';
import { parseSchedulerConfig } from '../schedule.ts';
import type { StepOutput } from '../steps.ts';
import { SigmaSolver, type SpacedSigmaOptions, spacedSigmaShape } from './sigma.ts';
import { sumOf, type Term } from './solver.ts';

/** Options of `LMSDiscreteScheduler`, with the names and defaults of diffusers. */
export interface LMSDiscreteOptions extends SpacedSigmaOptions {}

const ORDER = 4;

/**
 * The linear multistep method of order 4 (Adams-Bashforth for steps of different widths, as in k-diffusion). Config and
 * numerics are those of diffusers' LMSDiscreteScheduler.
 *
 * @example
 * await generate({ scheduler: new LMSDiscreteScheduler(), num_inference_steps: 30 });
 */
export class LMSDiscreteScheduler extends SigmaSolver<Complete<LMSDiscreteOptions>> {
  readonly className: string = 'LMSDiscreteScheduler';
  /** dx / d sigma at the last steps, the newest first. */
  private slopes: Float32Array[] = [];

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: LMSDiscreteOptions = {}) {
    super(parseSchedulerConfig('LMSDiscreteScheduler', spacedSigmaShape, options));
  }

  /** @throws {InvalidArgumentError} when the number of steps is not from 1 to T, or a timestep is out of range. */
  override setTimesteps(count?: number, options: { timesteps?: readonly number[] | undefined } = {}): void {
    super.setTimesteps(count, options);
    this.slopes = [];
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, or the timestep is not due. */
  step(output: Float32Array, timestep: number, sample: Float32Array): Required<StepOutput> {
    const index = this.advance(timestep);
    const [sigma = 1, next = 0] = this.sigmas.slice(index);
    const original = this.cleanSample(output, sample, sigma);
    const slope = sumOf([1 / sigma, sample], [-1 / sigma, original]);
    this.slopes = [slope, ...this.slopes].slice(0, ORDER);
    const nodes = this.slopes.map((_, i) => this.sigmas[index - i] as number);
    const terms = this.slopes.map((values, i): Term => [lagrangeIntegral(nodes, i, sigma, next), values]);
    return { prev_sample: sumOf([1, sample], ...terms), pred_original_sample: original };
  }
}

/** The integral of the Lagrange polynomial of a node. Simpson's rule is exact up to the third degree. */
function lagrangeIntegral(nodes: readonly number[], which: number, from: number, to: number): number {
  const own = nodes[which] as number;
  const value = (sigma: number) =>
    nodes.reduce((product, node, i) => (i === which ? product : (product * (sigma - node)) / (own - node)), 1);
  return ((to - from) / 6) * (value(from) + 4 * value((from + to) / 2) + value(to));
}
