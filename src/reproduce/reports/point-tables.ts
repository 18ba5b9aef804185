import type { SyntheticName } from '../../datasets/points/synthetic.ts';
import type { PointResult } from '../jobs/job.ts';
import { PRDC_METRICS, type PrdcMetric, paperValue } from '../paper/paper-results.ts';
import type { ReportRow, TargetReport } from '../paper/target-report.ts';
import { pointCells, type Target } from '../paper/targets.ts';
import { type Effect, effectOf } from './effect.ts';
import { effectText, verdictSummary } from './effect-text.ts';
import { capitalised, counted, markdownTable } from './markdown.ts';
import { spreadOf, spreadText } from './spread.ts';

export const SET_TITLES: Readonly<Record<SyntheticName, string>> = {
  'swiss-roll': 'Swiss Roll',
  moons: 'Moons',
  's-curve': 'S-Curve',
  '8-gaussians': '8-Gaussians',
};

/** Table 1 to 5: Precision, Recall, Density and Coverage of each set and λ, and what λ changes. */
export function pointTable(target: Target, results: readonly PointResult[]): TargetReport {
  const cells = pointCells(target);
  const datasets = [...new Set(cells.map(({ dataset }) => dataset))];
  const number = target.slice('table-'.length);
  const sets = datasets.map((dataset) => {
    const lambdas = cells.filter((cell) => cell.dataset === dataset).map(({ lambda }) => lambda);
    return setSection(
      dataset,
      lambdas,
      results.filter(({ job }) => job.dataset === dataset),
    );
  });
  return {
    target,
    title: `Table ${number}: ${datasets.length > 1 ? 'DDPM and Iso-Diffusion' : `${SET_TITLES[datasets[0] ?? 'moons']} by λ`}`,
    markdown: sets.map(({ markdown }) => markdown).join('\n\n'),
    rows: sets.flatMap(({ rows }) => rows),
    plots: [],
  };
}

function setSection(dataset: SyntheticName, lambdas: readonly number[], results: readonly PointResult[]) {
  const runsAt = (lambda: number) => results.filter(({ job }) => job.lambda === lambda);
  const spreadAt = (lambda: number, metric: PrdcMetric) =>
    spreadOf(runsAt(lambda).map(({ metrics }) => metrics[metric]));
  const values = lambdas.flatMap((lambda) => [
    [
      String(lambda),
      `measured, ${counted(runsAt(lambda).length, 'run')}`,
      ...PRDC_METRICS.map((metric) => spreadText(spreadAt(lambda, metric))),
    ],
    [
      String(lambda),
      'paper',
      ...PRDC_METRICS.map((metric) => paperValue(dataset, lambda, metric)?.toString() ?? '–'),
    ],
  ]);
  const effects = lambdas
    .filter((lambda) => lambda > 0)
    .map((lambda) => ({
      lambda,
      effects: PRDC_METRICS.map((metric) => effectAt(dataset, lambda, metric, results)),
    }));
  const rows: ReportRow[] = lambdas.flatMap((lambda) =>
    PRDC_METRICS.map((metric) => {
      const spread = spreadAt(lambda, metric);
      const effect = lambda > 0 ? effectAt(dataset, lambda, metric, results) : undefined;
      return {
        dataset,
        lambda,
        metric,
        runs: spread?.runs ?? 0,
        mean: spread?.mean ?? null,
        std: spread?.std ?? null,
        paper: paperValue(dataset, lambda, metric) ?? null,
        effect_mean: effect?.measured.mean ?? null,
        effect_std: effect?.measured.std ?? null,
        effect_paper: effect?.paper ?? null,
        effect_verdict: effect?.verdict ?? null,
      };
    }),
  );
  const markdown = [
    `### ${SET_TITLES[dataset]}`,
    markdownTable(['λ', '', ...PRDC_METRICS.map(capitalised)], values),
    'Change against λ = 0, measured (paper):',
    markdownTable(
      ['λ', ...PRDC_METRICS.map(capitalised)],
      effects.map((row) => [String(row.lambda), ...row.effects.map(effectText)]),
    ),
    verdictSummary(
      SET_TITLES[dataset],
      effects.flatMap((row) => row.effects),
    ),
  ].join('\n\n');
  return { markdown, rows };
}

function effectAt(
  dataset: SyntheticName,
  lambda: number,
  metric: PrdcMetric,
  results: readonly PointResult[],
): Effect | undefined {
  const valuesAt = (wanted: number) =>
    results
      .filter(({ job }) => job.lambda === wanted)
      .map(({ job, metrics }) => ({ seed: job.seed, value: metrics[metric] }));
  const before = paperValue(dataset, 0, metric);
  const after = paperValue(dataset, lambda, metric);
  const paper = before !== undefined && after !== undefined ? ([before, after] as const) : undefined;
  return effectOf(valuesAt(0), valuesAt(lambda), paper);
}
