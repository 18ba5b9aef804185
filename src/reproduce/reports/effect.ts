import { type Spread, spreadOf } from './spread.ts';

/** A measured value of one run. */
export interface SeededValue {
  readonly seed: number;
  readonly value: number;
}

/**
 * - `agrees`, `opposite`: the measured effect is clear, and has the paper's sign or the other one.
 * - `unclear`: it is within twice its standard error, or of one run alone.
 * - `none in the paper`: the paper's two figures are equal.
 */
export type Verdict = 'agrees' | 'opposite' | 'unclear' | 'none in the paper';

/** What the isotropy penalty changes against the same runs without it. */
export interface Effect {
  /** Of the differences, run by run of the same seed: the same data, initial weights and noise. */
  readonly measured: Spread;
  /** The difference of the paper's figures; undefined where the paper has none. */
  readonly paper: number | undefined;
  readonly verdict: Verdict | undefined;
}

/** How many standard errors an effect must be away from 0 to be called clear. */
export const CLEAR_STANDARD_ERRORS = 2;

/**
 * The effect of a weight λ on a metric.
 *
 * @param paper the paper's values without and with the penalty.
 * @returns undefined where no seed has both runs.
 */
export function effectOf(
  without: readonly SeededValue[],
  withPenalty: readonly SeededValue[],
  paper?: readonly [without: number, withPenalty: number],
): Effect | undefined {
  const differences = withPenalty.flatMap(({ seed, value }) => {
    const base = without.find((run) => run.seed === seed);
    return base ? [value - base.value] : [];
  });
  const measured = spreadOf(differences);
  if (!measured) return undefined;
  // The published figures have at most 4 digits; the difference of two of them has rounding noise.
  const difference = paper && Number((paper[1] - paper[0]).toFixed(6));
  return {
    measured,
    paper: difference,
    verdict: difference === undefined ? undefined : verdictOf(measured, difference),
  };
}

function verdictOf({ mean, std, runs }: Spread, paper: number): Verdict {
  if (paper === 0) return 'none in the paper';
  if (std === undefined || Math.abs(mean) <= (CLEAR_STANDARD_ERRORS * std) / Math.sqrt(runs))
    return 'unclear';
  return Math.sign(mean) === Math.sign(paper) ? 'agrees' : 'opposite';
}
