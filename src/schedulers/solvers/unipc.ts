import type { Complete, Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { parseSchedulerConfig } from '../schedule.ts';
import type { StepOptions, StepOutput } from '../steps.ts';
import { type FinalSigmaOptions, finalSigmaShape, type LogSnrOptions, LogSnrSolver, logSnrShape } from './log-snr.ts';
import { sumOf, type Term } from './solver.ts';

/** Options of `UniPCMultistepScheduler`, with the names and defaults of diffusers. */
export interface UniPCMultistepOptions extends LogSnrOptions, FinalSigmaOptions {
  /** Whether the predicted clean sample is integrated (default), or the predicted noise. */
  readonly predict_x0?: boolean | undefined;
  /** The function B of h in the paper: 'bh1' is h, 'bh2' (default) is e^h - 1. */
  readonly solver_type?: 'bh1' | 'bh2' | undefined;
  /** Steps, from 0, after which the corrector is not used; default none. */
  readonly disable_corrector?: readonly number[] | undefined;
}

const uniPCShape = {
  ...logSnrShape,
  ...finalSigmaShape,
  predict_x0: z._default(z.boolean(), true),
  solver_type: z._default(z.enum(['bh1', 'bh2']), 'bh2'),
  disable_corrector: z._default(z.array(z.int().check(z.gte(0))), []),
} satisfies Fields<UniPCMultistepOptions>;

/**
 * UniPC (Zhao et al. 2023, arXiv 2302.04867): a predictor and a corrector of the same order, which uses the model's output at
 * the predicted sample without another evaluation. Config and numerics are those of diffusers' UniPCMultistepScheduler.
 *
 * @example
 * await generate({ scheduler: new UniPCMultistepScheduler(), num_inference_steps: 15 });
 */
export class UniPCMultistepScheduler extends LogSnrSolver<Complete<UniPCMultistepOptions>> {
  readonly className: string = 'UniPCMultistepScheduler';
  /** The sample and the order of the step before, for the corrector. */
  private last: { readonly sample: Float32Array; readonly order: number } | undefined;

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: UniPCMultistepOptions = {}) {
    super(parseSchedulerConfig('UniPCMultistepScheduler', uniPCShape, options));
  }

  protected get endsAtZero(): boolean {
    return this.config.final_sigmas_type === 'zero';
  }

  protected get integrates(): 'sample' | 'epsilon' {
    return this.config.predict_x0 ? 'sample' : 'epsilon';
  }

  /** @throws {InvalidArgumentError} when the number of steps is not from 1 to T - 1, or a timestep is out of range. */
  override setTimesteps(count?: number, options: { timesteps?: readonly number[] | undefined } = {}): void {
    super.setTimesteps(count, options);
    this.last = undefined;
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, `sample_shape` is missing, or a timestep is not due. */
  step(output: Float32Array, timestep: number, sample: Float32Array, options: StepOptions = {}): StepOutput {
    const { solver_order, lower_order_final, disable_corrector } = this.config;
    const index = this.advance(timestep);
    const converted = this.converted(output, sample, index, options);
    const corrects = this.last && !disable_corrector.includes(index - 1);
    const corrected = corrects
      ? this.update(index - 1, this.last?.sample ?? sample, this.last?.order ?? 1, converted)
      : sample;
    this.remember(converted);
    const left = this.timesteps.length - index;
    // At sigma 0 only the first order is finite.
    const most = lower_order_final || (this.endsAtZero && left === 1) ? left : solver_order;
    const order = Math.min(solver_order, most, this.history.length);
    this.last = { sample: corrected, order };
    return { prev_sample: this.update(index, corrected, order) };
  }

  /**
   * The predictor UniP-p from the entry `index` to the next, or with the output there the corrector UniC-p (eq. 3 and 9).
   *
   * @param order p; the outputs of the p last steps are in the history.
   */
  private update(index: number, sample: Float32Array, order: number, there?: Float32Array): Float32Array {
    const [to, from] = [this.level(index + 1), this.level(index)];
    const h = to.lambda - from.lambda;
    if (h === 0) return sample.slice();
    const [m0 = sample, ...earlier] = this.history;
    const ratios = earlier.slice(0, order - 1).map((_, i) => (this.level(index - 1 - i).lambda - from.lambda) / h);
    const differences: [ratio: number, values: Float32Array][] = ratios.map((r, i) => [r, earlier[i] ?? m0]);
    if (there) differences.push([1, there]);
    const { predict_x0, solver_type } = this.config;
    const signed = predict_x0 ? -h : h;
    const scale = solver_type === 'bh1' ? signed : Math.expm1(signed);
    const rhos = weightsOf(
      differences.map(([r]) => r),
      signed,
      scale,
    );
    const [kept, factor] = predict_x0 ? [to.sigma / from.sigma, to.alpha] : [to.alpha / from.alpha, to.sigma];
    const terms = differences.flatMap(([r, values], i): Term[] => {
      const weight = (-factor * scale * (rhos[i] ?? 0)) / r;
      return [
        [weight, values],
        [-weight, m0],
      ];
    });
    return sumOf([kept, sample], [-factor * Math.expm1(signed), m0], ...terms);
  }
}

/**
 * The weights of the differences D_m / r_m: the solution of R rho B = phi (eq. 10), with the simplifications of the paper for
 * one difference, rho = 1/2.
 */
function weightsOf(ratios: readonly number[], h: number, scale: number): number[] {
  if (ratios.length <= 1) return ratios.map(() => 0.5);
  const right: number[] = [];
  let phi = Math.expm1(h) / h - 1;
  let factorial = 1;
  for (let k = 1; k <= ratios.length; k++) {
    right.push((phi * factorial) / scale);
    factorial *= k + 1;
    phi = phi / h - 1 / factorial;
  }
  return solved(
    ratios.map((_, power) => ratios.map((r) => r ** power)),
    right,
  );
}

/** The solution of a few linear equations, by elimination with the largest pivot. */
function solved(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i] as number]);
  rows.forEach((_, column) => {
    const pivot = rows
      .slice(column)
      .reduce((best, row) => (Math.abs(row[column] as number) > Math.abs(best[column] as number) ? row : best));
    rows.splice(rows.indexOf(pivot), 1);
    rows.splice(column, 0, pivot);
    for (const row of rows)
      if (row !== pivot) {
        const factor = (row[column] as number) / (pivot[column] as number);
        pivot.forEach((value, i) => {
          row[i] = (row[i] as number) - factor * value;
        });
      }
  });
  return rows.map((row, i) => (row.at(-1) as number) / (row[i] as number));
}
