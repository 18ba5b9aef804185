import type { SyntheticName } from '../../../datasets/points/synthetic.ts';
import type { ImageJob, ImageSettings, NamedImageSet, PointJob, PointSettings } from '../../jobs/job.ts';
import { PAPER_LAMBDAS, TABLE_1_LAMBDAS } from './paper-results.ts';

export const POINT_SETS = Object.keys(TABLE_1_LAMBDAS) as SyntheticName[];

export const TARGETS = [
  ...['table-1', 'table-2', 'table-3', 'table-4', 'table-5', 'table-6'],
  ...['figure-1', 'figure-2', 'figure-3', 'figure-4', 'figure-5', 'section-4'],
] as const;
export type Target = (typeof TARGETS)[number];

export function isImageTarget(target: Target): boolean {
  return target === 'table-6' || target === 'figure-2';
}

/** Set and weight of each run that a table or figure of points needs. */
export function pointCells(target: Target): { dataset: SyntheticName; lambda: number }[] {
  const everyLambda = (dataset: SyntheticName) => PAPER_LAMBDAS.map((lambda) => ({ dataset, lambda }));
  switch (target) {
    case 'table-1':
    case 'section-4':
      return POINT_SETS.flatMap((dataset) => [
        { dataset, lambda: 0 },
        { dataset, lambda: TABLE_1_LAMBDAS[dataset] },
      ]);
    case 'table-2':
    case 'figure-1':
      return everyLambda('swiss-roll');
    case 'table-3':
    case 'figure-3':
      return everyLambda('moons');
    case 'table-4':
    case 'figure-4':
      return everyLambda('s-curve');
    case 'table-5':
    case 'figure-5':
      return everyLambda('8-gaussians');
    case 'table-6':
    case 'figure-2':
      return [];
  }
}

/**
 * The jobs of the targets, each once. The first seed of every cell comes first: a stopped reproduction then has a run of
 * every cell.
 *
 * @param seeds one for each run of a cell.
 */
export function pointJobs(targets: readonly Target[], seeds: readonly number[], settings: PointSettings): PointJob[] {
  const cells = targets.flatMap(pointCells);
  const distinct = new Map(cells.map((cell) => [`${cell.dataset} ${cell.lambda}`, cell]));
  return seeds.flatMap((seed) =>
    [...distinct.values()].map((cell) => ({ kind: 'points' as const, ...cell, seed, ...settings })),
  );
}

/** DDPM and Iso-Diffusion on each set of images. The first seed of every cell comes first. */
export function imageJobs(
  sets: readonly NamedImageSet[],
  lambda: number,
  seeds: readonly number[],
  settings: ImageSettings,
): ImageJob[] {
  return seeds.flatMap((seed) =>
    sets.flatMap((set) =>
      [0, lambda].map((weight) => ({ kind: 'images' as const, ...set, lambda: weight, seed, ...settings })),
    ),
  );
}

/** Our version of one table, figure or section of the paper. */
export interface TargetReport {
  readonly target: Target;
  readonly title: string;
  /** Headings start at level 3. The plots follow the text. */
  readonly markdown: string;
  /** One row per value, for CSV and JSON. All rows have the same keys. */
  readonly rows: readonly ReportRow[];
  readonly plots: readonly ReportPlot[];
}

export type ReportRow = Readonly<Record<string, string | number | null>>;

export interface ReportPlot {
  /** File name without extension. */
  readonly name: string;
  readonly caption: string;
  /** SVG text, or the bytes of a PNG for a plot of images. */
  readonly image: string | Buffer;
}
