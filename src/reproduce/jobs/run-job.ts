import { runImageJob } from './image-job.ts';
import type { Job, JobResult } from './job.ts';
import type { JobContext } from './job-context.ts';
import { runPointJob } from './point-job.ts';

/** Runs one job in this process, or goes on with it; its folder then holds the result. */
export function runJob(job: Job, folder: string, context: JobContext): Promise<JobResult> {
  return job.kind === 'points' ? runPointJob(job, folder, context) : runImageJob(job, folder, context);
}
