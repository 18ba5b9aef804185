import type { Command } from 'commander';
import { ConfigError } from '../../errors.ts';
import { readJob } from '../../reproduce/jobs/job.ts';
import { runJob } from '../../reproduce/jobs/run-job.ts';
import { limitThreads } from '../../threads/threads.ts';
import { InterruptedError } from '../ui/interrupt.ts';

/** The process of one job of `reproduce`, which starts it and reads its messages; not listed in the help. */
export function addReproduceJobCommand(program: Command): void {
  program.command('reproduce-job <folder>', { hidden: true }).action(reproduceJob);
}

async function reproduceJob(folder: string): Promise<void> {
  const job = await readJob(folder);
  if (!job) throw new ConfigError(`${folder} holds no job.json`);
  const controller = new AbortController();
  const stop = () => controller.abort(new InterruptedError('stopped; go on with --resume'));
  process.on('SIGINT', stop);
  process.on('message', stop);
  // A job must not outlive its parent: a resumed parent would start it again beside it.
  process.on('disconnect', () => process.exit(1));
  if (process.send && !process.connected) process.exit(1);
  // One thread a job, so that a result depends neither on the cores nor on how many jobs run beside it.
  if (job.device === 'cpu') limitThreads(1);
  try {
    await runJob(job, folder, {
      signal: controller.signal,
      onProgress: (fraction) => process.send?.({ fraction }),
    });
  } finally {
    process.removeAllListeners('disconnect');
    process.removeAllListeners('message');
    if (process.connected) process.disconnect();
  }
}
