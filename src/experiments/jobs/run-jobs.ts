import { mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { ConfigError, InvalidArgumentError } from '../../errors.ts';
import type { Device } from '../../runtime/device.ts';
import { isTraining, type Job, jobName, readJob, readResult, writeJob } from './job.ts';
import { JobProcess } from './job-process.ts';

export interface JobRun {
  readonly name: string;
  readonly folder: string;
  readonly job: Job;
}

/** Runs at a time: on the cpu each takes one core; a GPU is shared badly. */
export function defaultParallelism(device: Device): number {
  return device === 'cpu' ? availableParallelism() : 1;
}

export interface RunJobsOptions {
  /** Processes at a time, at least 1. */
  readonly parallel: number;
  readonly signal: AbortSignal;
  /** @param done the finished fraction of all runs, 0 to 1. */
  readonly onProgress?: ((run: JobRun, done: number) => void) | undefined;
  /** @param error undefined when the job has a result. */
  readonly onEnd?: (run: JobRun, error: Error | undefined) => void;
}

/** A run without a result, and why. */
export interface FailedRun {
  readonly run: JobRun;
  readonly error: Error;
}

/** The jobs with their folders, `<output>/jobs/<name>`. */
export function jobRuns(output: string, jobs: readonly Job[]): JobRun[] {
  return jobs.map((job) => {
    const name = jobName(job);
    return { name, folder: path.join(output, 'jobs', name), job };
  });
}

/**
 * Creates the jobs' folders, or reuses the existing ones.
 *
 * @returns the jobs that have no result yet.
 * @throws {InvalidArgumentError} when a job already exists and `resume` is false.
 * @throws {ConfigError} when a job there has other settings, or its result is damaged.
 */
export async function prepareJobs(runs: readonly JobRun[], resume: boolean): Promise<JobRun[]> {
  for (const { folder } of resume ? [] : runs)
    if (await readJob(folder))
      throw new InvalidArgumentError(
        `${folder} already exists: add --resume to continue with it, or choose another --output`,
      );
  const open = await unfinishedJobs(runs);
  for (const { folder, job } of open) {
    await mkdir(folder, { recursive: true });
    await writeJob(folder, job);
  }
  return open;
}

/**
 * The jobs that have no result. Writes nothing.
 *
 * @throws {ConfigError} when a job's folder is there with other settings, or its result is damaged.
 */
export async function unfinishedJobs(runs: readonly JobRun[]): Promise<JobRun[]> {
  const open: JobRun[] = [];
  for (const run of runs) {
    const there = await readJob(run.folder);
    if (there) refuseOtherSettings(run, there);
    if (!there || !(await readResult(run.folder))) open.push(run);
  }
  return open;
}

/** The runs of the i-th (from 1) of n shares. Those of one data set and seed stay together: some need the models of others. */
export function runsOfShare(
  runs: readonly JobRun[],
  [index, shares]: readonly [index: number, shares: number],
): JobRun[] {
  const groups = [...new Set(runs.map(groupOf))];
  return runs.filter((run) => groups.indexOf(groupOf(run)) % shares === index - 1);
}

function groupOf({ job }: JobRun): string {
  const training = isTraining(job) ? job : job.model;
  return `${training.seed} ${training.kind === 'points' ? training.dataset : training.name}`;
}

function refuseOtherSettings({ folder, job }: JobRun, there: Job): void {
  const before = new Map(settingsOf(there));
  const differing = settingsOf(job).flatMap(([key, now]) => {
    const old = before.get(key);
    return old === now ? [] : [`${key} ${old} there, ${now} here`];
  });
  if (differing.length > 0)
    throw new ConfigError(
      `${folder} has other settings (${differing.join('; ')}): give the same ones, or choose another --output`,
    );
}

/** Names and values; those of a job inside another are "model.epochs" and so on. */
function settingsOf(object: object, prefix = ''): [name: string, value: string][] {
  return Object.entries(object).flatMap(([key, value]) =>
    typeof value === 'object' && value !== null
      ? settingsOf(value, `${prefix}${key}.`)
      : [[`${prefix}${key}`, JSON.stringify(value)] satisfies [string, string]],
  );
}

/**
 * Runs jobs in other processes, `parallel` at a time, in the given order; those that need trained models after all that
 * train. A job that fails does not stop the others.
 *
 * @returns the runs that failed.
 * @throws `signal.reason` when it was stopped; the jobs under way have saved checkpoints then.
 */
export async function runJobs(runs: readonly JobRun[], options: RunJobsOptions): Promise<FailedRun[]> {
  const { parallel, signal, onProgress, onEnd } = options;
  const failed: FailedRun[] = [];
  const fractions = new Map<JobRun, number>();
  const report = (run: JobRun, fraction: number) => {
    fractions.set(run, fraction);
    onProgress?.(run, [...fractions.values()].reduce((sum, one) => sum + one, 0) / runs.length);
  };
  const end = (run: JobRun, error?: Error) => {
    if (error) failed.push({ run, error });
    onEnd?.(run, error);
    report(run, 1);
  };
  const takeJobs = async (worker: JobProcess, queue: Iterable<JobRun>) => {
    for (const run of queue) {
      if (signal.aborted) return;
      try {
        await worker.run(run.folder, { signal, onProgress: (fraction) => report(run, fraction) });
        end(run);
      } catch (error) {
        if (signal.aborted) return;
        end(run, error instanceof Error ? error : new Error(String(error)));
      }
    }
  };
  const workers = Array.from({ length: parallel }, () => new JobProcess());
  try {
    for (const trains of [true, false]) {
      // One iterator for all: each job is taken once.
      const queue = runs.filter(({ job }) => isTraining(job) === trains).values();
      await Promise.all(workers.map((worker) => takeJobs(worker, queue)));
      signal.throwIfAborted();
    }
  } finally {
    for (const worker of workers) await worker.release();
  }
  return failed;
}
