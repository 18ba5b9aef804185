import { intervalColumns, intervalText, type Spread, spreadOf } from '../../statistics/spread.ts';
import { signed } from '../../text.ts';
import type { ReportRow } from '../paper/targets.ts';

/** A measured value of one run. */
interface SeededValue {
  readonly seed: number;
  readonly value: number;
}

/**
 * - `agrees`, `opposite`: the measured effect is clear, with the paper's sign or the opposite one. It is clear where its
 *   95 % interval leaves out 0.
 * - `unclear`: the interval holds 0, or there is only one run.
 * - `none in the paper`: the paper's two figures are equal.
 */
export type Verdict = 'agrees' | 'opposite' | 'unclear' | 'none in the paper';

/** The effect of the isotropy penalty, compared with the same runs without it. */
export interface Effect {
  /** Over the differences between runs of the same seed: the same data, initial weights and noise. */
  readonly measured: Spread;
  /** The difference of the paper's figures; undefined where the paper has none. */
  readonly paper: number | undefined;
  /** Undefined where the paper has no difference, or `verdicts` is false. */
  readonly verdict: Verdict | undefined;
}

/** How measured effects are reported. */
export interface EffectOptions {
  /** Whether an effect is compared with the paper's. It is not for the smoke preset, which trains too little. */
  readonly verdicts: boolean;
}

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
  { verdicts }: EffectOptions = { verdicts: true },
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
  return { measured, paper: difference, verdict: verdicts ? verdictOf(measured, difference) : undefined };
}

function verdictOf({ mean, half_width }: Spread, paper: number): Verdict {
  if (paper === 0) return 'none in the paper';
  if (half_width === undefined || Math.abs(mean) <= half_width) return 'unclear';
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
    ...intervalColumns('interval', spread),
    paper: paper ?? null,
    effect_runs: effect?.measured.runs ?? 0,
    effect_mean: effect?.measured.mean ?? null,
    effect_std: effect?.measured.std ?? null,
    ...intervalColumns('effect_interval', effect?.measured),
    effect_paper: effect?.paper ?? null,
    effect_verdict: effect?.verdict ?? null,
  };
}

/** "+0.0113 [−0.0078, +0.0304] (+0.082): unclear": the mean, its interval, the paper's effect and the verdict. */
export function effectText(effect: Effect | undefined): string {
  if (!effect) return '–';
  const { measured, paper, verdict } = effect;
  const interval = intervalText(measured);
  return [
    signed(measured.mean),
    interval && ` ${interval}`,
    paper === undefined ? '' : ` (${signed(paper, 3)})`,
    verdict === undefined ? '' : `: ${verdict}`,
  ].join('');
}

/** One sentence that counts the verdicts. */
export function verdictSummary(
  name: string,
  effects: readonly (Effect | undefined)[],
  { verdicts: wanted }: EffectOptions = { verdicts: true },
): string {
  if (!wanted) return `${name}: the smoke preset trains too little to compare effects with the paper's.`;
  const verdicts = effects.flatMap((effect) => effect?.verdict ?? []);
  if (verdicts.length === 0) return `${name}: no effect can be compared with the paper's yet.`;
  const count = (kind: Verdict) => verdicts.filter((verdict) => verdict === kind).length;
  const none = count('none in the paper');
  return `${name}: of ${verdicts.length} effects, ${count('agrees')} have the paper's sign, ${count('opposite')} the opposite one, ${count('unclear')} are unclear${none > 0 ? `, and for ${none} the paper shows none` : ''}.`;
}
