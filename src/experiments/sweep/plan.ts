// How many epochs or seeds fit into a budget of time.

import { rm } from 'node:fs/promises';
import path from 'node:path';
import { InvalidArgumentError, JobFailedError } from '../../errors.ts';
import { duration } from '../../terminal/progress.ts';
import { type Job, readResult, type TrainingJob } from '../jobs/job.ts';
import { jobRuns, prepareJobs, runJobs } from '../jobs/run-jobs.ts';
import { sweepJobs } from './jobs.ts';

/** Steps of the shorter trial; the longer one takes three times as many. */
const TRIAL_STEPS = 100;
/** Of the budget: trials are short, and runs beside each other differ. */
const USABLE = 0.85;
/** Intervals need two runs. */
const LEAST_SEEDS = 2;

/** What is trained within a budget. */
export interface Plan {
  readonly epochs: number;
  readonly seeds: number;
}

interface PlanRequest {
  readonly budget_seconds: number;
  readonly first: TrainingJob;
  /** Of the training set. */
  readonly samples: number;
  readonly lambdas: readonly number[];
  readonly seeds: number;
  readonly at_sampling: boolean;
  /** Whether the epochs are given: then only the seeds can be fewer. */
  readonly fixed_epochs: boolean;
  readonly parallel: number;
  readonly output_dir: string;
  readonly signal: AbortSignal;
}

/**
 * Runs two short trials, as many beside each other as the sweep will have, and takes the epochs that fit for all seeds; where
 * less than the longer trial fits, fewer seeds.
 *
 * @throws {InvalidArgumentError} when not even two seeds fit; says how long they take.
 */
export async function planWithin(request: PlanRequest): Promise<Plan> {
  const { budget_seconds, first, samples, lambdas, at_sampling, fixed_epochs, parallel } = request;
  const started = performance.now();
  const stepsPerEpoch = Math.ceil(samples / first.batch_size);
  const short = Math.max(1, Math.round(TRIAL_STEPS / stepsPerEpoch));
  const shortSeconds = await trialSeconds(request, short);
  const longSeconds = await trialSeconds(request, 3 * short);
  const perEpoch = Math.max(0, (longSeconds - shortSeconds) / (2 * short));
  // Start, drawing and measuring: what a drawing job takes too.
  const rest = Math.max(0, shortSeconds - perEpoch * short);
  const left = USABLE * budget_seconds - (performance.now() - started) / 1000;

  const rounds = (seeds: number) => {
    const jobs = sweepJobs(first, lambdas, seeds, at_sampling);
    const draws = jobs.filter(({ kind }) => kind === 'draw').length;
    return { training: Math.ceil((jobs.length - draws) / parallel), drawing: Math.ceil(draws / parallel) };
  };
  const secondsFor = (seeds: number, epochs: number) => {
    const { training, drawing } = rounds(seeds);
    return training * (rest + perEpoch * epochs) + drawing * rest;
  };
  const least = fixed_epochs ? first.epochs : Math.min(first.epochs, 3 * short);
  for (let seeds = request.seeds; seeds >= LEAST_SEEDS; seeds--) {
    if (secondsFor(seeds, least) > left) continue;
    if (fixed_epochs) return { epochs: first.epochs, seeds };
    const { training } = rounds(seeds);
    const fitting = Math.floor((left - secondsFor(seeds, 0)) / (training * perEpoch));
    return { epochs: Math.max(least, Math.min(first.epochs, fitting)), seeds };
  }
  const needed = secondsFor(LEAST_SEEDS, least) / USABLE + (performance.now() - started) / 1000;
  throw new InvalidArgumentError(
    `the budget of ${duration(budget_seconds)} is too small: ${LEAST_SEEDS} seeds of ${lambdas.length} weights with ${least} epochs take about ${duration(needed)}. Give more time, fewer weights or fewer samples`,
  );
}

/** The mean wall time of trials that run beside each other. */
async function trialSeconds({ first, parallel, output_dir, signal }: PlanRequest, epochs: number): Promise<number> {
  const output = path.join(output_dir, `trial-${epochs}`);
  await rm(output, { recursive: true, force: true });
  const jobs: Job[] = Array.from({ length: parallel }, (_, run) => ({ ...first, seed: first.seed + run, epochs }));
  const runs = jobRuns(output, jobs);
  try {
    await prepareJobs(runs, false);
    const [failed] = await runJobs(runs, { parallel, signal });
    if (failed)
      throw new JobFailedError(`a trial of ${epochs} epochs failed: ${failed.error.message}`, { cause: failed.error });
    const results = await Promise.all(runs.map(({ folder }) => readResult(folder)));
    const seconds = results.map((result) => result?.timing.wall_seconds ?? 0);
    return seconds.reduce((sum, one) => sum + one, 0) / seconds.length;
  } finally {
    await rm(output, { recursive: true, force: true });
  }
}
