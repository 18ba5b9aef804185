import { mkdir } from 'node:fs/promises';
import { InvalidArgumentError } from '../../errors.ts';
import { identify } from '../../evaluation/inputs.ts';
import { drawRun, picturesOf, type Samples } from './measure.ts';
import { type CompareOptions, type CompareSettings, compareSettings } from './options.ts';
import { warningsOf } from './outcome.ts';
import { writeComparison } from './report.ts';
import { readRun, type Setting, type StoredMetrics, type StoredRun } from './run.ts';
import { type ComparedSide, comparedSettings, comparedSides, comparisonText, type Side, sidesOf } from './sides.ts';

/** What `compareRuns` found. */
export interface CompareReport {
  /** A sentence for each side but the first, which claims no more than the intervals allow. */
  readonly summary: string;
  /** One run each, or several that differ in the seed alone; the first is what the others are compared with. */
  readonly sides: readonly ComparedSide[];
  /** The settings that are not the same, by name: a value for each side, undefined where its folder does not say. */
  readonly settings: Readonly<Record<string, readonly (Setting | undefined)[]>>;
  /** What the values must not be taken for, one sentence each. */
  readonly warnings: readonly string[];
  /** `compare.html`, `compare.md`, `compare.json` and `compare.csv`. */
  readonly files: readonly string[];
}

/**
 * Puts runs that exist side by side: the settings that differ, the curves that they logged, samples from the same noise, and
 * metrics, which they measured themselves or, with `dataset`, are measured now. Runs that differ in the seed alone are one
 * side; changes are then over pairs of the same seed.
 *
 * @throws {InvalidArgumentError} when an option is wrong, a folder is not a run, has not ended or has no log, or the runs draw
 * different things. Nothing is drawn or written then. @throws {ConfigError} for a damaged file of a run.
 * @throws `signal.reason` when it was stopped.
 * @example
 * const { summary, files } = await compareRuns({
 *   runs: ['runs/ddpm', 'runs/iso'], dataset: 'swiss-roll', output_dir: 'runs/ddpm-and-iso',
 * });
 */
export async function compareRuns(options: CompareOptions): Promise<CompareReport> {
  const settings = compareSettings(options);
  const runs: StoredRun[] = [];
  for (const folder of settings.runs) runs.push(await readRun(folder));
  const sides = sidesOf(runs);
  await checkDataset(settings, runs);
  const { measured, pictures } = await drawAll(runs, sides, settings);
  const compared = comparedSides(sides, measured);
  const outcome = { settings, sides, compared, measured, pictures };
  await mkdir(settings.output_dir, { recursive: true });
  const files = await writeComparison(settings.output_dir, outcome);
  return {
    summary: comparisonText(compared),
    sides: compared,
    settings: comparedSettings(sides).differing,
    warnings: warningsOf(outcome),
    files,
  };
}

/** @throws {InvalidArgumentError} when the data set is not there, or of another kind than the runs. */
async function checkDataset({ dataset }: CompareSettings, [first]: readonly StoredRun[]): Promise<void> {
  if (dataset === undefined || !first) return;
  const { kind } = await identify('real', dataset);
  if ((kind === 'points') === (first.task === 'points') && !kind.endsWith('pipeline')) return;
  throw new InvalidArgumentError(
    `the runs draw ${first.task}, but '${dataset}' has ${kind}: name a data set of ${first.task}`,
  );
}

async function drawAll(runs: readonly StoredRun[], sides: readonly Side[], settings: CompareSettings) {
  const measured = new Map<string, StoredMetrics>();
  const shown = new Map<Side, Samples>();
  for (const [i, run] of runs.entries()) {
    settings.signal?.throwIfAborted();
    const side = sides.find(({ runs: [first] }) => first?.folder === run.folder);
    const drawn = await drawRun(run, settings, side !== undefined, (fraction) =>
      settings.on_progress?.((i + fraction) / runs.length, run.folder),
    );
    const { samples, measured: values = run.measured } = drawn;
    if (values) measured.set(run.folder, values);
    if (side && samples) shown.set(side, samples);
    settings.on_progress?.((i + 1) / runs.length, run.folder);
  }
  return { measured, pictures: await picturesOf(shown) };
}
