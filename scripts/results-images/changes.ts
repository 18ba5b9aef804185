// What changes with the weight of the penalty, over pairs of runs of one seed.
import { isBetter, isClear } from '../../src/experiments/statistics/change.ts';
import { intervalOf, type Spread, spreadOf, spreadText } from '../../src/experiments/statistics/spread.ts';
import { signed, signedBound } from '../../src/experiments/text.ts';
import type { ModelResult } from './results.ts';
import { LAMBDAS } from './study.ts';

/** What the tables have, by the name of the metric; isotropy is neither better nor worse. */
export const METRIC_TITLES = {
  fid: 'FID',
  kid_mean: 'KID',
  precision: 'Precision',
  recall: 'Recall',
  density: 'Density',
  coverage: 'Coverage',
  isotropy: 'isotropy',
} as const;
export type StudyMetric = keyof typeof METRIC_TITLES;
export const METRICS = Object.keys(METRIC_TITLES) as StudyMetric[];

type Measured = Pick<ModelResult, 'lambda' | 'seed' | 'isotropy' | 'metrics'>;

/** The change of one metric against λ = 0. */
export interface SetChange {
  readonly lambda: number;
  readonly metric: StudyMetric;
  /** One a seed that has both runs. */
  readonly differences: readonly number[];
  readonly spread: Spread;
  /** Of 95 %; undefined for one pair. */
  readonly interval: [low: number, high: number] | undefined;
}

function valueIn({ isotropy, metrics }: Measured, metric: StudyMetric): number | undefined {
  return metric === 'isotropy' ? isotropy : metrics?.[metric];
}

/** All changes of one set, by λ and metric; without those of which there is no pair. */
export function changesOf(models: readonly Measured[]): SetChange[] {
  const [base = 0, ...others] = LAMBDAS;
  return others.flatMap((lambda) =>
    METRICS.flatMap((metric) => {
      const differences = models.flatMap((model) => {
        if (model.lambda !== lambda) return [];
        const pair = models.find((one) => one.lambda === base && one.seed === model.seed);
        const [value, before] = [valueIn(model, metric), pair && valueIn(pair, metric)];
        return value === undefined || before === undefined ? [] : [value - before];
      });
      const spread = spreadOf(differences);
      return spread ? [{ lambda, metric, differences, spread, interval: intervalOf(spread) }] : [];
    }),
  );
}

/** "better", "worse", "higher" or "lower" where the interval leaves out 0; else "unclear", and "one pair" without an interval. */
export function verdictOf({ metric, spread, interval }: SetChange): string {
  if (!interval) return 'one pair';
  if (!isClear(spread)) return 'unclear';
  const better = isBetter(metric, spread);
  if (better === undefined) return spread.mean > 0 ? 'higher' : 'lower';
  return better ? 'better' : 'worse';
}

/** Decimals that show four digits of the largest value of a metric. */
function decimals(models: readonly Measured[], metric: StudyMetric): number {
  const largest = Math.max(0, ...models.map((model) => Math.abs(valueIn(model, metric) ?? 0)));
  return largest > 0 ? Math.min(8, Math.max(1, 3 - Math.floor(Math.log10(largest)))) : 4;
}

/** The mean over the runs of one weight, with its half width. @param models all of the set. */
export function valueText(models: readonly Measured[], row: readonly Measured[], metric: StudyMetric): string {
  return spreadText(spreadOf(row.flatMap((model) => valueIn(model, metric) ?? [])), decimals(models, metric));
}

/** "+0.0113 [−0.0078, +0.0304]". @param models all of the set. */
export function changeText(models: readonly Measured[], { metric, spread, interval }: SetChange): string {
  const digits = decimals(models, metric);
  const ends = interval ? ` [${interval.map((end) => signedBound(end, digits)).join(', ')}]` : '';
  return `${signed(spread.mean, digits)}${ends}`;
}

/** What can be said of a set, a line a weight. @param models all of the set. */
export function summaryLines(title: string, models: readonly Measured[], changes: readonly SetChange[]): string[] {
  const lambdas = [...new Set(changes.map(({ lambda }) => lambda))];
  return lambdas.map((lambda) => {
    const own = changes.filter((change) => change.lambda === lambda);
    const named = (verdict: string) => own.filter((change) => verdictOf(change) === verdict);
    const clear = ['better', 'worse', 'higher', 'lower'].flatMap((verdict) =>
      named(verdict).map((change) => `${METRIC_TITLES[change.metric]} ${verdict}, ${changeText(models, change)}`),
    );
    const titlesOf = (verdict: string) =>
      named(verdict)
        .map(({ metric }) => METRIC_TITLES[metric])
        .join(', ');
    const parts = [
      ...clear,
      ...(titlesOf('unclear') ? [`unclear: ${titlesOf('unclear')}`] : []),
      ...(titlesOf('one pair') ? ['one seed so far, so that no interval can be given'] : []),
    ];
    return `- **${title}, λ = ${lambda}**: ${parts.join('; ')}.`;
  });
}
