import path from 'node:path';
import { writeFileAtomic } from '../../../files/atomic.ts';
import { svgToPng, writePlot } from '../../../plots/index.ts';
import {
  type ImageResult,
  isTrained,
  type PointResult,
  readResult,
  type Stored,
  type TrainedResult,
} from '../../jobs/job.ts';
import type { JobRun } from '../../jobs/run-jobs.ts';
import { csvText } from '../../text.ts';
import { PAPER_SOURCE } from '../paper/paper-results.ts';
import { isImageTarget, type ReportPlot, type Target, type TargetReport } from '../paper/targets.ts';
import { agreementMarkdown } from './agreement.ts';
import type { EffectOptions } from './effect.ts';
import { imageFigure, imageTable } from './image-reports.ts';
import { isotropySection } from './isotropy-section.ts';
import { pointFigure, pointTable } from './point-reports.ts';
import { type RunSummary, summaryMarkdown } from './run-summary.ts';

/**
 * Writes `<target>.md`, `.json`, `.csv` and the plots of one target into a folder.
 *
 * @returns the paths of the files.
 */
export async function writeTargetReport(folder: string, report: TargetReport, summary: RunSummary): Promise<string[]> {
  const plots: string[] = [];
  for (const plot of report.plots) plots.push(...(await writeReportPlot(folder, plot)));
  const { target, title, rows } = report;
  const base = path.join(folder, target);
  const text = [`# ${title}`, summaryMarkdown(summary), bodyMarkdown(report, '')].join('\n\n');
  await writeFileAtomic(`${base}.md`, `${text}\n`);
  const data = { target, title, paper: PAPER_SOURCE, summary, rows };
  await writeFileAtomic(`${base}.json`, `${JSON.stringify(data, undefined, 2)}\n`);
  await writeFileAtomic(`${base}.csv`, csvText(rows));
  return [`${base}.md`, `${base}.json`, `${base}.csv`, ...plots];
}

/** Writes all targets into one Markdown file, with their plots as PNG in `images/` next to it. */
export async function writeCombinedReport(
  file: string,
  reports: readonly TargetReport[],
  summary: RunSummary,
): Promise<void> {
  const images = path.join(path.dirname(file), 'images');
  for (const { name, image } of reports.flatMap(({ plots }) => plots))
    await writeFileAtomic(path.join(images, `${name}.png`), await smallPng(image));
  const sections = reports.map((report) => `## ${report.title}\n\n${bodyMarkdown(report, 'images/')}`);
  const agreement = agreementMarkdown(reports);
  const text = [
    '# Reproduction of the paper',
    summaryMarkdown(summary),
    ...(agreement ? [agreement] : []),
    ...sections,
  ].join('\n\n');
  await writeFileAtomic(file, `${text}\n`);
}

function bodyMarkdown({ markdown, plots }: TargetReport, imageFolder: string): string {
  const images = plots.map(({ name, caption }) => `![${caption}](${imageFolder}${name}.png)`);
  return [markdown, ...images].join('\n\n');
}

async function writeReportPlot(folder: string, { name, image }: ReportPlot): Promise<string[]> {
  const base = path.join(folder, name);
  if (typeof image === 'string') return writePlot(base, image);
  await writeFileAtomic(`${base}.png`, image);
  return [`${base}.png`];
}

/** A palette more than halves the size: the combined report is committed with the sources. */
async function smallPng(image: ReportPlot['image']): Promise<Buffer> {
  const png = typeof image === 'string' ? await svgToPng(image) : image;
  const { default: sharp } = await import('sharp');
  return sharp(png).png({ palette: true, colours: 64 }).toBuffer();
}

/** The results of those jobs that are finished. @throws {ConfigError} when one is damaged. */
export async function finishedResults(runs: readonly JobRun[]): Promise<Stored<TrainedResult>[]> {
  const stored = await Promise.all(runs.map(async ({ folder }) => ({ folder, result: await readResult(folder) })));
  return stored.flatMap(({ folder, result }) => (result && isTrained(result) ? [{ folder, result }] : []));
}

/** The report of one target from the finished runs. */
export async function reportOf(
  target: Target,
  stored: readonly Stored<TrainedResult>[],
  options: EffectOptions,
): Promise<TargetReport> {
  if (isImageTarget(target)) {
    const images = stored.filter((one): one is Stored<ImageResult> => one.result.job.kind === 'images');
    if (target === 'figure-2') return imageFigure(images);
    return imageTable(
      images.map(({ result }) => result),
      options,
    );
  }
  const points = stored.filter((one): one is Stored<PointResult> => one.result.job.kind === 'points');
  const results = points.map(({ result }) => result);
  if (target === 'section-4') return isotropySection(results);
  return target.startsWith('figure') ? pointFigure(target, points) : pointTable(target, results, options);
}
