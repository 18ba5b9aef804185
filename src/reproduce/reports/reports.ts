import { type ImageResult, type JobResult, type PointResult, readResult } from '../jobs/job.ts';
import type { JobRun } from '../jobs/run-jobs.ts';
import type { TargetReport } from '../paper/target-report.ts';
import type { Target } from '../paper/targets.ts';
import { imageFigure, imageTable } from './image-reports.ts';
import { isotropySection } from './isotropy-section.ts';
import { pointFigure } from './point-figure.ts';
import { pointTable } from './point-tables.ts';

export interface StoredResult {
  readonly result: JobResult;
  readonly folder: string;
}

/** The results of those jobs that are finished. @throws {ConfigError} when one is damaged. */
export async function finishedResults(runs: readonly JobRun[]): Promise<StoredResult[]> {
  const stored = await Promise.all(
    runs.map(async ({ folder }) => ({ folder, result: await readResult(folder) })),
  );
  return stored.flatMap(({ folder, result }) => (result ? [{ folder, result }] : []));
}

/** The report of one target, from whatever is finished. */
export async function reportOf(target: Target, stored: readonly StoredResult[]): Promise<TargetReport> {
  const points = stored.flatMap(({ folder, result }) => (isPoints(result) ? [{ folder, result }] : []));
  const images = stored.flatMap(({ folder, result }) => (isPoints(result) ? [] : [{ folder, result }]));
  switch (target) {
    case 'table-6':
      return imageTable(images.map(({ result }) => result));
    case 'figure-2':
      return imageFigure(images);
    case 'section-4':
      return isotropySection(points.map(({ result }) => result));
    case 'figure-1':
    case 'figure-3':
    case 'figure-4':
    case 'figure-5':
      return pointFigure(target, points);
    default:
      return pointTable(
        target,
        points.map(({ result }) => result),
      );
  }
}

function isPoints(result: PointResult | ImageResult): result is PointResult {
  return result.job.kind === 'points';
}
