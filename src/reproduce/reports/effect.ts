import type { ReportRow } from '../paper/targets.ts';
import { type Spread, spreadOf } from './spread.ts';
import { signed } from './text.ts';

/** A measured value of one run. */
interface SeededValue {
  readonly seed: number;
  readonly value: number;
}

/**
 * - `agrees`, `opposite`: the measured effect is clear, with the paper's sign or the opposite one.
 * - `unclear`: it is within twice its standard error, or there is only one run.
 * - `none in the paper`: the paper's two figures are equal.
 */
export type Verdict = 'agrees' | 'opposite' | 'unclear' | 'none in the paper';

/** The effect of the isotropy penalty, compared with the same runs without it. */
export interface Effect {
  /** Over the differences between runs of the same seed: the same data, initial weights and noise. */
  readonly measured: Spread;
  /** The difference of the paper's figures; undefined where the paper has none. */
  readonly paper: number | undefined;
  readonly verdict: Verdict | undefined;
}

/** An effect is clear when it is more than this many standard errors from 0. */
const CLEAR_STANDARD_ERRORS = 2;

/**
 * The effect of a weight λ on a metric.
 *
 * @param paper the paper's values without and with the penalty, as far as it has them.
 * @returns undefined where no seed has both runs.
 */
export function effectOf(
  without: readonly SeededValue[],
  withPenalty: readonly SeededValue[],
  paper: readonly [without?: number | undefined, withPenalty?: number | undefined] = [],
): Effect | undefined {
  const differences = withPenalty.flatMap(({ seed, value }) => {
    const base = without.find((run) => run.seed === seed);
    return base ? [value - base.value] : [];
  });
  const measured = spreadOf(differences);
  if (!measured) return undefined;
  const [before, after] = paper;
  if (before === undefined || after === undefined) return { measured, paper: undefined, verdict: undefined };
  // The published figures have at most 4 digits; the difference of two of them has rounding noise.
  const difference = Number((after - before).toFixed(6));
  return { measured, paper: difference, verdict: verdictOf(measured, difference) };
}

function verdictOf({ mean, std, runs }: Spread, paper: number): Verdict {
  if (paper === 0) return 'none in the paper';
  if (std === undefined || Math.abs(mean) <= (CLEAR_STANDARD_ERRORS * std) / Math.sqrt(runs)) return 'unclear';
  return Math.sign(mean) === Math.sign(paper) ? 'agrees' : 'opposite';
}

/** A metric at one λ. */
interface Measurement {
  readonly spread: Spread | undefined;
  readonly paper: number | undefined;
  readonly effect: Effect | undefined;
}

/** The row of a measurement in CSV and JSON. */
export function measurementRow(
  cell: Readonly<Record<'dataset' | 'metric', string>> & { readonly lambda: number | null },
  { spread, paper, effect }: Measurement,
): ReportRow {
  return {
    ...cell,
    runs: spread?.runs ?? 0,
    mean: spread?.mean ?? null,
    std: spread?.std ?? null,
    paper: paper ?? null,
    effect_mean: effect?.measured.mean ?? null,
    effect_std: effect?.measured.std ?? null,
    effect_paper: effect?.paper ?? null,
    effect_verdict: effect?.verdict ?? null,
  };
}

/** "+0.0021 ± 0.0010 (+0.082): agrees". */
export function effectText(effect: Effect | undefined): string {
  if (!effect) return '–';
  const { measured, paper, verdict } = effect;
  const spread = measured.std === undefined ? '' : ` ± ${measured.std.toFixed(4)}`;
  const published = paper === undefined ? '' : ` (${signed(paper, 3)}): ${verdict}`;
  return `${signed(measured.mean)}${spread}${published}`;
}

/** One sentence that counts the verdicts. */
export function verdictSummary(name: string, effects: readonly (Effect | undefined)[]): string {
  const verdicts = effects.flatMap((effect) => effect?.verdict ?? []);
  if (verdicts.length === 0) return `${name}: no effect can be compared with the paper's yet.`;
  const count = (wanted: Verdict) => verdicts.filter((verdict) => verdict === wanted).length;
  const none = count('none in the paper');
  return `${name}: of ${verdicts.length} effects, ${count('agrees')} have the paper's sign, ${count('opposite')} the opposite one, ${count('unclear')} are unclear${none > 0 ? `, and for ${none} the paper shows none` : ''}.`;
}
