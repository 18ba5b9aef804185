import { availableParallelism } from 'node:os';
import { type JobRun, runJobs } from '../../experiments/jobs/run-jobs.ts';
import type { Device } from '../../runtime/device.ts';
import { InterruptedError, withInterrupt } from '../../terminal/interrupt.ts';
import { progressBar } from '../../terminal/progress.ts';

/** Runs at a time: on the cpu each takes one core; a GPU is shared badly. */
export function defaultParallelism(device: Device): number {
  return device === 'cpu' ? availableParallelism() : 1;
}

/**
 * Runs jobs with a progress bar, or without a terminal with a line for each finished job. Ctrl-C stops them.
 *
 * @returns a line for each job that failed.
 * @throws {InterruptedError} when it was stopped.
 */
export async function runWithProgress(label: string, open: readonly JobRun[], parallel: number): Promise<string[]> {
  const failed: string[] = [];
  const fractions = new Map<string, number>();
  const bar = progressBar(label, 1000);
  let ended = 0;
  const update = () => {
    const done = [...fractions.values()].reduce((sum, fraction) => sum + fraction, 0);
    bar.update(Math.round((1000 * done) / open.length), `${ended} of ${open.length} runs done`);
  };
  const say = (text: string) => {
    if (!process.stderr.isTTY) process.stderr.write(`${text}\n`);
  };
  say(`${open.length} runs to do, ${Math.min(parallel, open.length)} at a time`);
  try {
    await withInterrupt('interrupted: saving checkpoints (Ctrl-C again exits at once)', (signal) =>
      runJobs(open, {
        parallel,
        signal,
        onProgress: ({ name }, fraction) => {
          fractions.set(name, fraction);
          update();
        },
        onEnd: ({ name }, error) => {
          fractions.set(name, 1);
          ended++;
          if (error) failed.push(`  ${name}: ${error.message}`);
          say(`${ended}/${open.length} ${name} ${error ? `failed: ${error.message}` : 'done'}`);
          update();
        },
      }),
    );
  } catch (error) {
    if (!(error instanceof InterruptedError)) throw error;
    throw new InterruptedError(`stopped after ${ended} of ${open.length} runs; continue with --resume`);
  } finally {
    bar.stop();
  }
  return failed;
}
