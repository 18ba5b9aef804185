import path from 'node:path';
import { loadPoints } from '../../datasets/index.ts';
import { readNpyRows } from '../../files/npy.ts';
import { type ScatterPanel, scatterPanels } from '../../plots/index.ts';
import { GENERATED_FILE, type PointResult } from '../jobs/job.ts';
import { PRDC_METRICS } from '../paper/paper-results.ts';
import type { TargetReport } from '../paper/target-report.ts';
import { pointCells, type Target } from '../paper/targets.ts';
import { capitalised, markdownTable } from './markdown.ts';
import { SET_TITLES } from './point-tables.ts';

const PANEL_PIXELS = 240;
const PANELS_A_ROW = 3;
/** Points of each kind a panel; more hide one another and make the SVG large. */
const MAX_POINTS = 3000;

/** A result with the folder its files are in. */
export interface StoredPointResult {
  readonly result: PointResult;
  readonly folder: string;
}

/** Figures 1, 3, 4, 5: generated over real points for every λ, of the first seed that has runs. */
export async function pointFigure(
  target: Target,
  stored: readonly StoredPointResult[],
): Promise<TargetReport> {
  const cells = pointCells(target);
  const dataset = cells[0]?.dataset ?? 'swiss-roll';
  const candidates = stored.filter(({ result }) => result.job.dataset === dataset);
  const seed = Math.min(...candidates.map(({ result }) => result.job.seed));
  const shown = cells.flatMap(
    ({ lambda }) =>
      candidates.find(({ result: { job } }) => job.lambda === lambda && job.seed === seed) ?? [],
  );
  const title = `Figure ${target.slice('figure-'.length)}: ${SET_TITLES[dataset]} by λ`;
  if (shown.length === 0)
    return { target, title, markdown: 'No run of this figure is finished.', rows: [], plots: [] };
  const panels = await Promise.all(shown.map(panelOf));
  return {
    target,
    title,
    markdown: [
      `Generated points (blue) over real ones (grey), seed ${seed}; the first ${MAX_POINTS} of each.`,
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
        image: await scatterPanels(panels, {
          size: PANEL_PIXELS,
          columns: PANELS_A_ROW,
          max_points: MAX_POINTS,
        }),
      },
    ],
  };
}

async function panelOf({ result: { job }, folder }: StoredPointResult): Promise<ScatterPanel> {
  const real = await loadPoints(job.dataset, { n: job.points, seed: job.seed });
  const { data, dims } = await readNpyRows(path.join(folder, GENERATED_FILE));
  return {
    real,
    fake: { data: Float32Array.from(data), count: data.length / dims, dims },
    title: job.lambda === 0 ? 'λ = 0 (DDPM)' : `λ = ${job.lambda}`,
  };
}
