import path from 'node:path';
import { writeFileAtomic } from '../../files/atomic.ts';
import { changeText, metricTitle } from '../statistics/change.ts';
import { intervalColumns, spreadText } from '../statistics/spread.ts';
import { csvText, markdownTable } from '../text.ts';
import { type CompareOutcome, howText, untoldText, warningsOf } from './outcome.ts';
import { comparePage } from './page.ts';
import { type ComparedSide, comparedSettings, comparisonText } from './sides.ts';

/**
 * Writes `compare.html`, `.md`, `.json` and `.csv`.
 *
 * @returns the paths of the files.
 */
export async function writeComparison(folder: string, outcome: CompareOutcome): Promise<string[]> {
  const { compared, sides } = outcome;
  const rows = compared.flatMap(rowsOf);
  const { differing, untold } = comparedSettings(sides);
  const data = {
    summary: comparisonText(compared),
    measured: howText(outcome) ?? null,
    warnings: warningsOf(outcome),
    sides: compared.map(({ name, runs, seeds }) => ({ name, runs, seeds: seeds.map((seed) => seed ?? null) })),
    settings: Object.fromEntries(
      Object.entries(differing).map(([name, values]) => [name, values.map((value) => value ?? null)]),
    ),
    untold,
    rows,
  };
  const files = {
    'compare.html': await comparePage(outcome),
    'compare.md': markdown(outcome),
    'compare.json': `${JSON.stringify(data, undefined, 2)}\n`,
    'compare.csv': csvText(rows),
  };
  const written = Object.entries(files).map(async ([name, text]) => {
    const file = path.join(folder, name);
    await writeFileAtomic(file, text);
    return file;
  });
  return Promise.all(written);
}

function markdown(outcome: CompareOutcome): string {
  const { compared, sides } = outcome;
  const metrics = [...new Set(compared.flatMap(({ values }) => Object.keys(values)))];
  const how = howText(outcome);
  const { differing, untold } = comparedSettings(sides);
  const names = compared.map(({ name }) => name);
  return `${[
    `# ${names.join(', ')}`,
    comparisonText(compared),
    ...(how === undefined ? [] : [how]),
    ...warningsOf(outcome).map((warning) => `**Warning: ${warning}.**`),
    ...(metrics.length === 0
      ? []
      : [
          markdownTable(
            ['', 'runs', ...metrics.map(metricTitle)],
            compared.map(({ name, runs, values }) => [
              name,
              String(runs.length),
              ...metrics.map((metric) => spreadText(values[metric]?.spread)),
            ]),
          ),
          `Change against ${names[0]}:`,
          markdownTable(
            ['', ...metrics.map(metricTitle)],
            compared
              .slice(1)
              .map(({ name, values }) => [name, ...metrics.map((metric) => changeText(values[metric]?.change))]),
          ),
        ]),
    'Settings that differ:',
    markdownTable(
      ['', ...names],
      [
        ['seed', ...compared.map(({ seeds }) => seeds.map((seed) => seed ?? '–').join(', '))],
        ...Object.entries(differing).map(([name, values]) => [name, ...values.map((value) => String(value ?? '–'))]),
      ],
    ),
    ...(untold.length === 0 ? [] : [untoldText(untold)]),
  ].join('\n\n')}\n`;
}

function rowsOf({ name, values }: ComparedSide) {
  return Object.entries(values).map(([metric, { spread, change }]) => ({
    side: name,
    metric,
    runs: spread.runs,
    mean: spread.mean,
    std: spread.std ?? null,
    ...intervalColumns('interval', spread),
    change_pairs: change?.runs ?? 0,
    change_mean: change?.mean ?? null,
    change_std: change?.std ?? null,
    ...intervalColumns('change_interval', change),
  }));
}
