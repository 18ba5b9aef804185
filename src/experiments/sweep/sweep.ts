import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { ConfigError, InvalidArgumentError, JobFailedError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { withFolderLock } from '../../files/folder-lock.ts';
import { readJsonFile, stringifySorted } from '../../files/json.ts';
import { exists } from '../../files/regular-file.ts';
import { resolveDevice } from '../../runtime/device.ts';
import * as z from '../../zod.ts';
import { type JobResult, readResult, type Stored, type TrainingJob, trainingJobSchema } from '../jobs/job.ts';
import { defaultParallelism, type JobRun, jobRuns, prepareJobs, runJobs, unfinishedJobs } from '../jobs/run-jobs.ts';
import { sweepAdvice } from './advice.ts';
import { type Place, type SweepCell, sweepCells } from './cells.ts';
import { firstJob, sweepJobs } from './jobs.ts';
import { type SweepOptions, type SweepSettings, sweepSettings } from './options.ts';
import { planWithin } from './plan.ts';
import { writeSweepReport } from './report.ts';

const PLAN_FILE = 'plan.json';
/** What was decided when the sweep began. A resumed sweep follows it. */
const planSchema = z.strictObject({
  first: trainingJobSchema,
  lambda: z.array(z.number()),
  seeds: z.int().check(z.gte(1)),
  at_sampling: z.boolean(),
  /** What was asked for, to be compared with what a resumed sweep is asked for. */
  asked: z.record(z.string(), z.json()),
});
type SweepPlan = z.output<typeof planSchema>;

/** What a sweep found. */
export interface SweepReport {
  /** One sentence that claims no more than the intervals allow. */
  readonly advice: string;
  /** Weight 0, then every other weight; each metric with its mean, its interval, and its change against weight 0. */
  readonly cells: readonly SweepCell[];
  /** Epochs of a run, which a budget may have lowered, as it may the seeds. */
  readonly num_train_epochs: number;
  /** Runs of each weight, with the seeds from 0. */
  readonly seeds: number;
  /** Runs that other processes of a shared sweep have not finished yet. */
  readonly unfinished: number;
  /** `sweep.html`, `sweep.md`, `sweep.json` and `sweep.csv`. */
  readonly files: readonly string[];
}

/**
 * Trains models with several weights of the isotropy penalty and several seeds, draws from them, measures, and reports what the
 * weight changes. Runs of the same seed have the same data, initial weights, training noise and sampling noise. Every weight
 * is also applied to the model of weight 0 when it draws (docs/theory.md). A stopped sweep goes on with `resume`, to the same
 * bytes.
 *
 * @throws {InvalidArgumentError} when an option is wrong, the folder has a sweep and `resume` is false, or nothing fits into the
 * budget. @throws {ConfigError} when the sweep there was asked for something else. @throws {JobFailedError} when runs failed.
 * @throws `signal.reason` when it was stopped.
 * @example
 * const { advice, files } = await sweep({ dataset: 'moons', output_dir: './runs/sweep', lambda: [0.05, 0.1], seeds: 3 });
 */
export async function sweep(options: SweepOptions): Promise<SweepReport> {
  const settings = sweepSettings(options);
  const { output_dir, shard, signal = new AbortController().signal } = settings;
  await resolveDevice(settings.device);
  const [index, shards] = shard;
  // Shares of a sweep work on runs of their own in the same folder.
  const locked = shards === 1 ? output_dir : path.join(output_dir, `shard-${index}-of-${shards}`);
  return withFolderLock(locked, 'choose another output folder, or another shard', async () => {
    const plan = await planOf(settings, signal);
    const { first, lambda, seeds, at_sampling } = plan;
    const all = jobRuns(output_dir, sweepJobs(first, lambda, seeds, at_sampling));
    const own = all.filter(({ job }) => (seedOf(job) - first.seed) % shards === index);
    await runAll(await prepareJobs(own, true), settings, signal);
    return report(output_dir, plan, all);
  });
}

/** Writes the report of the runs that are finished. @throws {InvalidArgumentError} when the folder has no sweep. */
export async function reportSweep(output_dir: string): Promise<SweepReport> {
  const file = path.join(output_dir, PLAN_FILE);
  if (!(await exists(file))) throw new InvalidArgumentError(`${output_dir} has no sweep: there is no ${PLAN_FILE}`);
  const plan = await readJsonFile(file, planSchema);
  return report(
    output_dir,
    plan,
    jobRuns(output_dir, sweepJobs(plan.first, plan.lambda, plan.seeds, plan.at_sampling)),
  );
}

function seedOf(job: JobRun['job']): number {
  return 'seed' in job ? job.seed : job.model.seed;
}

/** The plan of the folder, or a new one. */
async function planOf(settings: SweepSettings, signal: AbortSignal): Promise<SweepPlan> {
  const { output_dir, lambda, at_sampling, resume, shard } = settings;
  const file = path.join(output_dir, PLAN_FILE);
  const asked = askedFor(settings);
  if (await exists(file)) {
    if (!resume && shard[1] === 1)
      throw new InvalidArgumentError(`${output_dir} has a sweep already: resume it, or choose another output folder`);
    const plan = await readJsonFile(file, planSchema);
    const differing = Object.keys({ ...plan.asked, ...asked }).filter(
      (key) => stringifySorted({ value: plan.asked[key] ?? null }) !== stringifySorted({ value: asked[key] ?? null }),
    );
    if (differing.length > 0)
      throw new ConfigError(
        `the sweep in ${output_dir} was begun with other options (${differing.map((key) => `${key} ${JSON.stringify(plan.asked[key] ?? null)} there, ${JSON.stringify(asked[key] ?? null)} here`).join('; ')}): give the same ones, or choose another output folder`,
      );
    return plan;
  }
  const { first, samples } = await firstJob(settings);
  const { epochs, seeds } = await fitting(settings, first, samples, signal);
  // In the order of the schema, as it is read again: a resumed sweep writes the same bytes.
  const plan = planSchema.parse({ first: { ...first, epochs }, lambda, seeds, at_sampling, asked });
  await mkdir(output_dir, { recursive: true });
  await writeFileAtomic(file, stringifySorted(plan));
  return plan;
}

/** Options that change how a sweep runs, and not what comes out. */
const NOT_DECIDING: readonly (keyof SweepOptions)[] = [
  'output_dir',
  'jobs',
  'shard',
  'resume',
  'on_progress',
  'signal',
];

function askedFor(settings: SweepSettings): SweepPlan['asked'] {
  const deciding = Object.entries(settings).filter(
    ([name, value]) => value !== undefined && !NOT_DECIDING.some((other) => other === name),
  );
  return planSchema.shape.asked.parse(Object.fromEntries(deciding));
}

async function fitting(
  settings: SweepSettings,
  first: TrainingJob,
  samples: number,
  signal: AbortSignal,
): Promise<{ readonly epochs: number; readonly seeds: number }> {
  const { budget_seconds, seeds, lambda, at_sampling, output_dir, num_train_epochs } = settings;
  if (budget_seconds === undefined) return { epochs: first.epochs, seeds };
  return planWithin({
    ...{ budget_seconds, first, samples, seeds, at_sampling, output_dir, signal },
    lambdas: lambda,
    fixed_epochs: num_train_epochs !== undefined,
    parallel: settings.jobs ?? defaultParallelism(settings.device),
  });
}

async function runAll(open: readonly JobRun[], settings: SweepSettings, signal: AbortSignal): Promise<void> {
  const failed = await runJobs(open, {
    parallel: settings.jobs ?? defaultParallelism(settings.device),
    signal,
    onProgress: ({ name }, done) => settings.on_progress?.(done, name),
  });
  if (failed.length > 0)
    throw new JobFailedError(
      `${failed.length} of ${open.length} runs failed:\n${failed.map(({ run, error }) => `${run.name}: ${error.message}`).join('\n')}\nResume the sweep to try them again`,
    );
}

async function report(output_dir: string, plan: SweepPlan, runs: readonly JobRun[]): Promise<SweepReport> {
  const { first, lambda, seeds, at_sampling } = plan;
  const stored = new Map<string, Stored<JobResult>>();
  for (const { name, folder } of runs) {
    const result = await readResult(folder);
    if (result) stored.set(name, { result, folder });
  }
  const unfinished = (await unfinishedJobs(runs)).length;
  const bases = Array.from({ length: seeds }, (_, run) => ({ ...first, seed: first.seed + run }));
  const places: readonly Place[] = at_sampling ? ['sampling'] : ['training', 'sampling'];
  const results = new Map([...stored].map(([name, { result }]) => [name, result]));
  const cells = sweepCells(bases, lambda, places, results);
  const outcome = { first, bases, seeds, cells, stored, planned: runs.length, unfinished };
  const files = await writeSweepReport(output_dir, outcome);
  return { advice: sweepAdvice(cells), cells, num_train_epochs: first.epochs, seeds, unfinished, files };
}
