import path from 'node:path';
import { loadPoints } from '../../../datasets/index.ts';
import type { SyntheticName } from '../../../datasets/points/synthetic.ts';
import { readNpyRows } from '../../../files/npy.ts';
import { type ScatterPanel, scatterPanels } from '../../../plots/index.ts';
import { GENERATED_FILE, type PointResult, type Stored } from '../../jobs/job.ts';
import { spreadOf, spreadText } from '../../statistics/spread.ts';
import { capitalised, counted, markdownTable } from '../../text.ts';
import { PRDC_METRICS, type PrdcMetric, paperValue } from '../paper/paper-results.ts';
import { pointCells, type Target, type TargetReport } from '../paper/targets.ts';
import { type EffectOptions, effectOf, effectText, measurementRow, verdictSummary } from './effect.ts';

export const SET_TITLES: Readonly<Record<SyntheticName, string>> = {
  'swiss-roll': 'Swiss Roll',
  moons: 'Moons',
  's-curve': 'S-Curve',
  '8-gaussians': '8-Gaussians',
};

/** Tables 1 to 5: Precision, Recall, Density and Coverage of each set and λ, and the effect of λ. */
export function pointTable(target: Target, results: readonly PointResult[], options: EffectOptions): TargetReport {
  const cells = pointCells(target);
  const datasets = [...new Set(cells.map(({ dataset }) => dataset))];
  const number = target.slice('table-'.length);
  const sets = datasets.map((dataset) => {
    const lambdas = cells.filter((cell) => cell.dataset === dataset).map(({ lambda }) => lambda);
    const ofSet = results.filter(({ job }) => job.dataset === dataset);
    return setSection(dataset, lambdas, ofSet, options);
  });
  return {
    target,
    title: `Table ${number}: ${datasets.length > 1 ? 'DDPM and Iso-Diffusion' : `${SET_TITLES[datasets[0] ?? 'moons']} by λ`}`,
    markdown: sets.map(({ markdown }) => markdown).join('\n\n'),
    rows: sets.flatMap(({ rows }) => rows),
    plots: [],
  };
}

function setSection(
  dataset: SyntheticName,
  lambdas: readonly number[],
  results: readonly PointResult[],
  options: EffectOptions,
) {
  const runsAt = (lambda: number) => results.filter(({ job }) => job.lambda === lambda);
  const valuesAt = (lambda: number, metric: PrdcMetric) =>
    runsAt(lambda).map(({ job, metrics }) => ({ seed: job.seed, value: metrics[metric] }));
  const paperAt = (lambda: number, metric: PrdcMetric) => paperValue(dataset, lambda, metric);
  const lines = lambdas.map((lambda) => ({
    lambda,
    runs: runsAt(lambda).length,
    cells: PRDC_METRICS.map((metric) => {
      const values = valuesAt(lambda, metric);
      const paper = paperAt(lambda, metric);
      const published = [paperAt(0, metric), paper] as const;
      const effect = lambda > 0 ? effectOf(valuesAt(0, metric), values, published, options) : undefined;
      return { metric, spread: spreadOf(values.map(({ value }) => value)), paper, effect };
    }),
  }));
  const withPenalty = lines.filter(({ lambda }) => lambda > 0);
  const metricTitles = PRDC_METRICS.map(capitalised);
  const markdown = [
    `### ${SET_TITLES[dataset]}`,
    markdownTable(
      ['λ', '', ...metricTitles],
      lines.flatMap(({ lambda, runs, cells }) => [
        [String(lambda), `measured, ${counted(runs, 'run')}`, ...cells.map(({ spread }) => spreadText(spread))],
        [String(lambda), 'paper', ...cells.map(({ paper }) => paper?.toString() ?? '–')],
      ]),
    ),
    'Change against λ = 0, measured with its 95 % interval (paper):',
    markdownTable(
      ['λ', ...metricTitles],
      withPenalty.map(({ lambda, cells }) => [String(lambda), ...cells.map(({ effect }) => effectText(effect))]),
    ),
    verdictSummary(
      SET_TITLES[dataset],
      withPenalty.flatMap(({ cells }) => cells.map(({ effect }) => effect)),
      options,
    ),
  ].join('\n\n');
  const rows = lines.flatMap(({ lambda, cells }) =>
    cells.map(({ metric, ...measured }) => measurementRow({ dataset, lambda, metric }, measured)),
  );
  return { markdown, rows };
}

const PANEL_PIXELS = 240;
const PANELS_A_ROW = 3;
/** Points of each kind per panel. More would hide each other and make the SVG large. */
const MAX_POINTS = 3000;

/** Figures 1, 3, 4 and 5: generated over real points for every λ, for the first seed that has runs. */
export async function pointFigure(target: Target, stored: readonly Stored<PointResult>[]): Promise<TargetReport> {
  const cells = pointCells(target);
  const dataset = cells[0]?.dataset ?? 'swiss-roll';
  const candidates = stored.filter(({ result }) => result.job.dataset === dataset);
  const seed = Math.min(...candidates.map(({ result }) => result.job.seed));
  const shown = cells.flatMap(
    ({ lambda }) => candidates.find(({ result: { job } }) => job.lambda === lambda && job.seed === seed) ?? [],
  );
  const title = `Figure ${target.slice('figure-'.length)}: ${SET_TITLES[dataset]} by λ`;
  if (shown.length === 0) return { target, title, markdown: 'No run of this figure is finished.', rows: [], plots: [] };
  const panels = await Promise.all(shown.map(panelOf));
  return {
    target,
    title,
    markdown: [
      `Generated points (blue) over real ones (grey), seed ${seed}; a random choice of at most ${MAX_POINTS} of each.`,
      markdownTable(
        ['λ', ...PRDC_METRICS.map(capitalised)],
        shown.map(({ result: { job, metrics } }) => [
          String(job.lambda),
          ...PRDC_METRICS.map((metric) => metrics[metric].toFixed(4)),
        ]),
      ),
    ].join('\n\n'),
    rows: shown.map(({ result: { job, metrics } }) => ({
      dataset,
      lambda: job.lambda,
      seed: job.seed,
      ...metrics,
    })),
    plots: [
      {
        name: target,
        caption: `${SET_TITLES[dataset]}: generated over real points for each λ`,
        image: await scatterPanels(panels, { size: PANEL_PIXELS, columns: PANELS_A_ROW, max_points: MAX_POINTS }),
      },
    ],
  };
}

async function panelOf({ result: { job }, folder }: Stored<PointResult>): Promise<ScatterPanel> {
  const real = await loadPoints(job.dataset, { n: job.points ?? undefined, seed: job.seed });
  const { data, dims } = await readNpyRows(path.join(folder, GENERATED_FILE));
  return {
    real,
    fake: { data: Float32Array.from(data), count: data.length / dims, dims },
    title: job.lambda === 0 ? 'λ = 0 (DDPM)' : `λ = ${job.lambda}`,
  };
}
