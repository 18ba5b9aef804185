import type { SyntheticName } from '../datasets/synthetic.ts';
import type { PointJob } from './job.ts';

/** The weights of Tables 2 to 5; 0 is DDPM. */
export const PAPER_LAMBDAS = [0, 0.01, 0.05, 0.1, 0.2, 0.3] as const;
/** The weight that Table 1 shows for each set. */
export const TABLE_1_LAMBDAS: Readonly<Record<SyntheticName, number>> = {
  'swiss-roll': 0.1,
  moons: 0.1,
  's-curve': 0.2,
  '8-gaussians': 0.3,
};
export const POINT_SETS = Object.keys(TABLE_1_LAMBDAS) as SyntheticName[];

export const TARGETS = [
  ...(['table-1', 'table-2', 'table-3', 'table-4', 'table-5', 'table-6'] as const),
  ...(['figure-1', 'figure-2', 'figure-3', 'figure-4', 'figure-5', 'section-4'] as const),
] as const;
export type Target = (typeof TARGETS)[number];

/** Set and weight of each run that a table or figure on points is made of. */
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

export type PointSettings = Omit<PointJob, 'kind' | 'dataset' | 'lambda' | 'seed'>;

/**
 * The jobs of the targets, each once: the first seed of everything first, so that a reproduction that was stopped
 * has a run of every cell.
 *
 * @param seeds one for each run of a cell.
 */
export function pointJobs(
  targets: readonly Target[],
  seeds: readonly number[],
  settings: PointSettings,
): PointJob[] {
  const cells = targets.flatMap(pointCells);
  const distinct = new Map(cells.map((cell) => [`${cell.dataset} ${cell.lambda}`, cell]));
  return seeds.flatMap((seed) =>
    [...distinct.values()].map((cell) => ({ kind: 'points' as const, ...cell, seed, ...settings })),
  );
}
