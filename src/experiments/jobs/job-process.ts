import { errorText, IsoDiffusionError } from '../../errors.ts';
import { packageScript } from '../../files/package-files.ts';
import { startProcess } from '../../threads/channel.ts';
import { runCompareJob } from './compare-job.ts';
import { runDrawJob } from './draw-job.ts';
import { runImageJob } from './image-job.ts';
import type { Job, JobContext, JobResult } from './job.ts';
import { runPointJob } from './point-job.ts';

/** A job's process ended without a result. */
export class JobFailedError extends IsoDiffusionError {}

/** The request to a job's process. While it runs, it sends the finished fraction, 0 to 1. */
export interface JobRequest {
  readonly folder: string;
}

/**
 * Runs the job that `job.json` of the folder describes, in a process of its own. When the signal aborts, the process
 * saves a checkpoint and ends; when this process dies, it ends at once.
 *
 * @throws {JobFailedError} with the message of the process. @throws `signal.reason` when it was stopped.
 */
export async function runJobProcess(folder: string, { signal, onProgress }: JobContext): Promise<void> {
  signal.throwIfAborted();
  const script = packageScript('experiments/jobs/job-worker.ts');
  const { channel } = startProcess<JobRequest, null, number>(script, { stderr: 'capture' });
  try {
    await channel.call({ folder }, { signal, onEvent: onProgress });
  } catch (cause) {
    signal.throwIfAborted();
    throw new JobFailedError(errorText(cause), { cause });
  } finally {
    await channel.release();
  }
}

/** Runs or continues one job in this process. Its folder then holds the result. */
export function runJob(job: Job, folder: string, context: JobContext): Promise<JobResult> {
  switch (job.kind) {
    case 'points':
      return runPointJob(job, folder, context);
    case 'images':
      return runImageJob(job, folder, context);
    case 'draw':
      return runDrawJob(job, folder, context);
    case 'compare':
      return runCompareJob(job, folder, context);
  }
}
