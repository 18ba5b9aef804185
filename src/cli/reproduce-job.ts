import type { Command } from 'commander';
import { ConfigError } from '../errors.ts';
import { readJob } from '../reproduction/job.ts';
import { runPointJob } from '../reproduction/point-job.ts';
import { limitThreads } from '../runtime/threads.ts';
import { InterruptedError } from './interrupt.ts';

/** The process of one job of `reproduce`, which starts it and reads its messages; not listed in the help. */
export function addReproduceJobCommand(program: Command): void {
  program.command('reproduce-job <folder>', { hidden: true }).action(runJob);
}

async function runJob(folder: string): Promise<void> {
  const job = await readJob(folder);
  if (!job) throw new ConfigError(`${folder} holds no job.json`);
  const controller = new AbortController();
  const stop = () => controller.abort(new InterruptedError('stopped; go on with --resume'));
  process.on('SIGINT', stop);
  process.on('message', stop);
  // Without its parent nobody would start it again but a new parent, beside it.
  process.on('disconnect', () => process.exit(1));
  // One thread a job, so that a result depends neither on the cores nor on how many jobs run beside it.
  limitThreads(1);
  try {
    await runPointJob(job, folder, {
      signal: controller.signal,
      onProgress: (fraction) => process.send?.({ fraction }),
    });
  } finally {
    process.removeAllListeners('disconnect');
    process.removeAllListeners('message');
    if (process.connected) process.disconnect();
  }
}
