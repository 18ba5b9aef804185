/** Mean and spread of a quantity over independent runs. */
export interface Spread {
  readonly runs: number;
  readonly mean: number;
  /** The sample standard deviation, divisor runs - 1; undefined for one run. */
  readonly std: number | undefined;
}

/** Undefined where there is no run. */
export function spreadOf(values: readonly number[]): Spread | undefined {
  const runs = values.length;
  if (runs === 0) return undefined;
  const mean = values.reduce((sum, x) => sum + x, 0) / runs;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { runs, mean, std: runs > 1 ? Math.sqrt(squares / (runs - 1)) : undefined };
}

/** "0.9829 ± 0.0023", without spread for one run, "–" for none. */
export function spreadText(spread: Spread | undefined, digits = 4): string {
  if (!spread) return '–';
  const { mean, std } = spread;
  return std === undefined ? mean.toFixed(digits) : `${mean.toFixed(digits)} ± ${std.toFixed(digits)}`;
}
