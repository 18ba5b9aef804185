import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { lock } from 'proper-lockfile';
import { InvalidArgumentError } from '../../errors.ts';

const LOCK_FILE = '.reproduce.lock';
/** The owner renews its lock every second. After this time without a renewal it counts as dead. */
const STALE_MS = 5000;

/**
 * Runs `work` under a lock on the folder, because two processes would train the same runs into the same files. The lock
 * of a killed process is taken over after five seconds.
 *
 * @throws {InvalidArgumentError} when another process holds the lock.
 */
export async function withOutputLock<T>(folder: string, work: () => Promise<T>): Promise<T> {
  await mkdir(folder, { recursive: true });
  const release = await acquire(folder);
  try {
    return await work();
  } finally {
    await release();
  }
}

async function acquire(folder: string): Promise<() => Promise<void>> {
  try {
    return await lock(folder, {
      lockfilePath: path.join(folder, LOCK_FILE),
      stale: STALE_MS,
      update: 1000,
      retries: { retries: STALE_MS / 1000 + 1, factor: 1, minTimeout: 1000 },
    });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ELOCKED')
      throw new InvalidArgumentError(
        `another process is reproducing into ${folder}: wait for it, or choose another --output`,
      );
    throw error;
  }
}
