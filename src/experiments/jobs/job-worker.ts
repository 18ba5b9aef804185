import { ConfigError } from '../../errors.ts';
import { serve } from '../../threads/channel.ts';
import { limitThreads } from '../../threads/threads.ts';
import { isTraining, readJob } from './job.ts';
import { type JobRequest, runJob } from './job-process.ts';

/** The process of one job of `reproduce`. */
serve<JobRequest, null, number>(async ({ folder }, { signal, emit }) => {
  const job = await readJob(folder);
  if (!job) throw new ConfigError(`${folder} holds no job.json`);
  // One thread a job, so that a result depends neither on the cores nor on how many jobs run beside it.
  const { device } = isTraining(job) ? job : job.model;
  if (device === 'cpu') limitThreads(1);
  await runJob(job, folder, { signal, onProgress: emit });
  return null;
});
