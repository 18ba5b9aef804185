import path from 'node:path';
import { writeFileAtomic } from '../../files/atomic.ts';
import { setName } from '../jobs/job.ts';
import { changeText } from '../statistics/change.ts';
import { intervalColumns, spreadText } from '../statistics/spread.ts';
import { csvText, METRIC_TITLES, markdownTable } from '../text.ts';
import { sweepAdvice, weightText } from './advice.ts';
import type { SweepCell, SweepMetric } from './cells.ts';
import { type SweepOutcome, settingsText, warningsOf } from './outcome.ts';
import { sweepPage } from './page.ts';

/**
 * Writes `sweep.html`, `.md`, `.json` and `.csv`. They hold no time: the same runs give the same bytes, however often they were
 * stopped.
 *
 * @returns the paths of the files.
 */
export async function writeSweepReport(folder: string, outcome: SweepOutcome): Promise<string[]> {
  const { first, cells, planned, unfinished } = outcome;
  const rows = cells.flatMap(rowsOf);
  const warnings = warningsOf(outcome);
  const data = {
    ...{ dataset: setName(first), advice: sweepAdvice(cells), settings: first, planned, unfinished },
    ...(warnings.length > 0 ? { warnings } : {}),
    rows,
  };
  const files = {
    'sweep.html': await sweepPage(outcome),
    'sweep.md': markdown(outcome),
    'sweep.json': `${JSON.stringify(data, undefined, 2)}\n`,
    'sweep.csv': csvText(rows),
  };
  const written = Object.entries(files).map(async ([name, text]) => {
    const file = path.join(folder, name);
    await writeFileAtomic(file, text);
    return file;
  });
  return Promise.all(written);
}

function markdown(outcome: SweepOutcome): string {
  const { first, cells, planned, unfinished } = outcome;
  const metrics = Object.keys(cells[0]?.values ?? {}) as SweepMetric[];
  const titles = metrics.map((metric) => METRIC_TITLES[metric]);
  return `${[
    `# λ on ${setName(first)}`,
    sweepAdvice(cells),
    ...(unfinished > 0 ? [`**${unfinished} of ${planned} runs are not finished: this report is partial.**`] : []),
    settingsText(outcome),
    ...warningsOf(outcome).map((warning) => `**Warning: ${warning}.**`),
    'Mean and half width of the 95 % interval over the seeds:',
    markdownTable(
      ['', 'runs', ...titles],
      cells.map((cell) => [
        weightText(cell),
        String(cell.runs),
        ...metrics.map((metric) => spreadText(cell.values[metric]?.spread)),
      ]),
    ),
    "Change against λ = 0 over pairs of the same seed, with its 95 % interval (Student's t). Of 20 changes that are none, one looks clear by chance.",
    markdownTable(
      ['', ...titles],
      cells
        .filter(({ lambda }) => lambda > 0)
        .map((cell) => [weightText(cell), ...metrics.map((metric) => changeText(cell.values[metric]?.change))]),
    ),
  ].join('\n\n')}\n`;
}

function rowsOf({ lambda, place, values }: SweepCell) {
  return (Object.entries(values) as [SweepMetric, SweepCell['values'][SweepMetric]][]).map(([metric, value]) => {
    const { spread, change } = value ?? {};
    return {
      lambda,
      place,
      metric,
      runs: spread?.runs ?? 0,
      mean: spread?.mean ?? null,
      std: spread?.std ?? null,
      ...intervalColumns('interval', spread),
      change_runs: change?.runs ?? 0,
      change_mean: change?.mean ?? null,
      change_std: change?.std ?? null,
      ...intervalColumns('change_interval', change),
    };
  });
}
