import { type JobRun, runJobs } from '../../experiments/jobs/run-jobs.ts';
import { InterruptedError, withInterrupt } from '../../terminal/interrupt.ts';
import { progressBar } from '../../terminal/progress.ts';

/**
 * Runs jobs with a progress bar, or without a terminal with a line for each finished job. Ctrl-C stops them.
 *
 * @returns a line for each job that failed.
 * @throws {InterruptedError} when it was stopped.
 */
export async function runWithProgress(label: string, open: readonly JobRun[], parallel: number): Promise<string[]> {
  const bar = progressBar(label, 1000);
  let ended = 0;
  const say = (text: string) => {
    if (!process.stderr.isTTY) process.stderr.write(`${text}\n`);
  };
  say(`${open.length} runs to do, ${Math.min(parallel, open.length)} at a time`);
  try {
    const failed = await withInterrupt('interrupted: saving checkpoints (Ctrl-C again exits at once)', (signal) =>
      runJobs(open, {
        parallel,
        signal,
        onProgress: (_run, done) => bar.update(Math.round(1000 * done), `${ended} of ${open.length} runs done`),
        onEnd: ({ name }, error) => {
          ended++;
          say(`${ended}/${open.length} ${name} ${error ? `failed: ${error.message}` : 'done'}`);
        },
      }),
    );
    return failed.map(({ run, error }) => `  ${run.name}: ${error.message}`);
  } catch (error) {
    if (!(error instanceof InterruptedError)) throw error;
    throw new InterruptedError(`stopped after ${ended} of ${open.length} runs; continue with --resume`);
  } finally {
    bar.stop();
  }
}
