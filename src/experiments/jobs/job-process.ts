import { errorText, JobFailedError } from '../../errors.ts';
import { packageScript } from '../../files/package-files.ts';
import { type Channel, startProcess } from '../../threads/channel.ts';
import { runCompareJob } from './compare-job.ts';
import { runDrawJob } from './draw-job.ts';
import { runImageJob } from './image-job.ts';
import type { Job, JobContext, JobResult } from './job.ts';
import { runPointJob } from './point-job.ts';

/** The request to a job's process. While it runs, it sends the finished fraction, 0 to 1. */
export interface JobRequest {
  readonly folder: string;
}

/** A process that runs jobs, one after another: it starts with the first, and is left behind by one that fails. */
export class JobProcess {
  private channel: Channel<JobRequest, null, number> | undefined;

  /**
   * Runs the job that `job.json` of the folder describes. When the signal aborts, the process saves a checkpoint; when this
   * process dies, it ends at once.
   *
   * @throws {JobFailedError} with the message of the process. @throws `signal.reason` when it was stopped.
   */
  async run(folder: string, { signal, onProgress }: JobContext): Promise<void> {
    signal.throwIfAborted();
    const script = packageScript('experiments/jobs/job-worker.ts');
    this.channel ??= startProcess<JobRequest, null, number>(script, { stderr: 'capture' }).channel;
    try {
      await this.channel.call({ folder }, { signal, onEvent: onProgress });
    } catch (cause) {
      await this.release();
      signal.throwIfAborted();
      throw new JobFailedError(errorText(cause), { cause });
    }
  }

  /** Ends the process. A later run starts another one. */
  async release(): Promise<void> {
    const { channel } = this;
    this.channel = undefined;
    await channel?.release();
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
