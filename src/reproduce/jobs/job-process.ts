import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { IsoDiffusionError } from '../../errors.ts';
import { importedModules } from '../../threads/imported-modules.ts';
import { runImageJob } from './image-job.ts';
import type { Job, JobContext, JobResult } from './job.ts';
import { runPointJob } from './point-job.ts';

/** The program itself: its hidden command `reproduce-job` runs the job of a folder. */
const PROGRAM = fileURLToPath(new URL('../../../bin/iso-diffusion.js', import.meta.url));
const messageSchema = z.object({ fraction: z.number() });
/** The end of a long error text says most. */
const MAX_ERROR_CHARACTERS = 4000;

/** A job's process ended without a result. */
export class JobFailedError extends IsoDiffusionError {}

/**
 * Runs the job that `job.json` of the folder describes, in a process of its own with the same imported modules. When the signal aborts, the process
 * saves a checkpoint and ends; when this process dies, it ends at once.
 *
 * @throws {JobFailedError} with what the process said. @throws `signal.reason` when it was stopped.
 */
export function runJobProcess(folder: string, { signal, onProgress }: JobContext): Promise<void> {
  signal.throwIfAborted();
  const imports = importedModules().flatMap((url) => ['--import', url]);
  const child = fork(PROGRAM, ['reproduce-job', folder, ...imports], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: [],
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-MAX_ERROR_CHARACTERS);
  });
  child.on('message', (message) => {
    const parsed = messageSchema.safeParse(message);
    if (parsed.success) onProgress(parsed.data.fraction);
  });
  const stop = () => {
    if (child.connected) child.send('stop', () => {});
  };
  signal.addEventListener('abort', stop, { once: true });
  return new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, killedBy) => {
      signal.removeEventListener('abort', stop);
      if (code === 0) resolve();
      else if (signal.aborted) reject(signal.reason);
      else reject(new JobFailedError(said.trim() || `it ended with ${killedBy ?? `status ${code}`}`));
    });
  });
}

/** Runs one job in this process, or goes on with it; its folder then holds the result. */
export function runJob(job: Job, folder: string, context: JobContext): Promise<JobResult> {
  return job.kind === 'points' ? runPointJob(job, folder, context) : runImageJob(job, folder, context);
}
