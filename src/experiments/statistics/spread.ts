import { signedBound } from '../text.ts';

/** Of the intervals of all reports. */
const CONFIDENCE = 0.95;

/** Mean and spread of a quantity over independent runs. */
export interface Spread {
  /** The number of values, at least 1. */
  readonly runs: number;
  /** Their mean. */
  readonly mean: number;
  /** The sample standard deviation, divisor runs - 1; undefined for one run. */
  readonly std: number | undefined;
  /**
   * The half width of the interval of the mean, of 95 % where nothing else is said: t std / sqrt(runs), where t is Student's for runs - 1 degrees of
   * freedom (12.7 for 2 runs, 4.3 for 3). Undefined for one run.
   */
  readonly half_width: number | undefined;
}

/**
 * Undefined where there is no run.
 *
 * @param confidence of the interval.
 */
export function spreadOf(values: readonly number[], confidence = CONFIDENCE): Spread | undefined {
  const runs = values.length;
  if (runs === 0) return undefined;
  const mean = values.reduce((sum, x) => sum + x, 0) / runs;
  if (runs === 1) return { runs, mean, std: undefined, half_width: undefined };
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  const std = Math.sqrt(squares / (runs - 1));
  return { runs, mean, std, half_width: (studentQuantile(confidence, runs - 1) * std) / Math.sqrt(runs) };
}

/**
 * The t for which Student's distribution lies between -t and t with this probability.
 *
 * With cos² θ = ν / (ν + t²) the probability is a finite sum (Abramowitz & Stegun 26.7.3 and 26.7.4) that grows with θ,
 * so that θ is found by halving.
 *
 * @param probability above 0 and below 1.
 * @param degreesOfFreedom a whole number of at least 1.
 */
export function studentQuantile(probability: number, degreesOfFreedom: number): number {
  let low = 0;
  let high = Math.PI / 2;
  for (;;) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) return Math.tan(low) * Math.sqrt(degreesOfFreedom);
    if (studentProbability(middle, degreesOfFreedom) < probability) low = middle;
    else high = middle;
  }
}

function studentProbability(theta: number, degreesOfFreedom: number): number {
  const isOdd = degreesOfFreedom % 2 === 1;
  const squaredCosine = Math.cos(theta) ** 2;
  let term = isOdd ? Math.cos(theta) : 1;
  let sum = 0;
  for (let k = isOdd ? 3 : 2; k <= degreesOfFreedom; k += 2) {
    sum += term;
    term *= ((k - 1) / k) * squaredCosine;
  }
  return isOdd ? (2 / Math.PI) * (theta + Math.sin(theta) * sum) : Math.sin(theta) * sum;
}

/** The ends of the interval; undefined for one run. */
export function intervalOf(spread: Spread | undefined): [low: number, high: number] | undefined {
  if (spread?.half_width === undefined) return undefined;
  return [spread.mean - spread.half_width, spread.mean + spread.half_width];
}

/** "[−0.0078, +0.0304]"; nothing for one run. */
export function intervalText(spread: Spread | undefined): string {
  const interval = intervalOf(spread);
  return interval ? `[${interval.map((end) => signedBound(end)).join(', ')}]` : '';
}

/** The ends of the interval as columns of CSV and JSON, null where there is none. */
export function intervalColumns(name: string, spread: Spread | undefined): Record<string, number | null> {
  const [low = null, high = null] = intervalOf(spread) ?? [];
  return { [`${name}_low`]: low, [`${name}_high`]: high };
}

/** `equivalent`: within the margin; `different`: beyond it; `not shown`: neither can be said of these runs. */
export type Equivalence = 'equivalent' | 'different' | 'not shown';

/**
 * Two one-sided t tests at 5 % (Schuirmann 1987): a mean difference is equivalent to 0 where its 90 % interval lies within
 * the margin.
 *
 * @param differences of paired runs.
 * @param margin the largest difference that does not matter, above 0. It must be chosen before the runs are seen.
 */
export function equivalenceOf(differences: readonly number[], margin: number): Equivalence {
  const { mean = 0, half_width } = spreadOf(differences, 0.9) ?? {};
  if (half_width === undefined) return 'not shown';
  if (Math.abs(mean) + half_width < margin) return 'equivalent';
  return Math.abs(mean) - half_width > margin ? 'different' : 'not shown';
}

/** "0.9829 ± 0.0057" with the half width of the interval, without it for one run, "–" for none. */
export function spreadText(spread: Spread | undefined, digits = 4): string {
  if (!spread) return '–';
  const { mean, half_width } = spread;
  return half_width === undefined ? mean.toFixed(digits) : `${mean.toFixed(digits)} ± ${half_width.toFixed(digits)}`;
}
