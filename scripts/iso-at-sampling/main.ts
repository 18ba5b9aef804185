/**
 * Measures what training with the isotropy penalty adds to a DDPM model whose predicted noise is scaled by the formula of
 * docs/theory.md when it draws. Writes `docs/iso-at-sampling.md` and its plots, whatever they show. A stopped run goes on.
 *
 *     npx tsx scripts/iso-at-sampling/main.ts [--output runs/iso-at-sampling] [--report docs/iso-at-sampling.md]
 *         [--jobs 2] [--seeds 5] [--epochs N] [--samples N] [--steps N] [--report-only]
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { runWithProgress } from '../../src/cli/ui/jobs.ts';
import { type JobResult, readResult } from '../../src/experiments/jobs/job.ts';
import { defaultParallelism, jobRuns, prepareJobs, unfinishedJobs } from '../../src/experiments/jobs/run-jobs.ts';
import { withFolderLock } from '../../src/files/folder-lock.ts';
import { writeStudyReport } from './report.ts';
import { studyJobs, studySets } from './study.ts';

const { values } = parseArgs({
  options: {
    output: { type: 'string', default: path.join('runs', 'iso-at-sampling') },
    report: { type: 'string', default: path.join('docs', 'iso-at-sampling.md') },
    jobs: { type: 'string' },
    seeds: { type: 'string', default: '5' },
    epochs: { type: 'string' },
    samples: { type: 'string' },
    steps: { type: 'string' },
    'report-only': { type: 'boolean', default: false },
  },
});
const { output, report } = values;

const sets = studySets(wholeNumber('seeds', values.seeds) ?? 5, {
  epochs: wholeNumber('epochs', values.epochs),
  samples: wholeNumber('samples', values.samples),
  steps: wholeNumber('steps', values.steps),
});
const runs = jobRuns(output, studyJobs(sets));
if (!values['report-only']) {
  const parallel = wholeNumber('jobs', values.jobs) ?? defaultParallelism('cpu');
  const failed = await withFolderLock(output, 'choose another --output', async () =>
    runWithProgress('iso-at-sampling', await prepareJobs(runs, true), parallel),
  );
  if (failed.length > 0) throw new Error(`${failed.length} of ${runs.length} runs failed:\n${failed.join('\n')}`);
}
const open = await unfinishedJobs(runs);
const results = new Map<string, JobResult>();
for (const { name, folder } of runs) {
  const result = await readResult(folder);
  if (result) results.set(name, result);
}
const files = await writeStudyReport(report, sets, results, { planned: runs.length, unfinished: open.length });
console.log(`written: ${files.join(', ')}`);

/** @throws {RangeError} for anything but a whole number of at least 1. */
function wholeNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new RangeError(`--${flag} is '${text}', but must be a whole number of at least 1`);
}
