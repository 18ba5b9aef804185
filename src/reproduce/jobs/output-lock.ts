import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { InvalidArgumentError } from '../../errors.ts';

const LOCK_FILE = '.reproduce.lock';

/**
 * Runs `work` while no other process may reproduce into the folder: two would train the same runs into the same files.
 * What a killed process left behind is no hindrance.
 *
 * @throws {InvalidArgumentError} when another process is at work there.
 */
export async function withOutputLock<T>(folder: string, work: () => Promise<T>): Promise<T> {
  await mkdir(folder, { recursive: true });
  const file = path.join(folder, LOCK_FILE);
  await acquire(file, folder);
  try {
    return await work();
  } finally {
    await rm(file, { force: true });
  }
}

async function acquire(file: string, folder: string): Promise<void> {
  for (;;) {
    try {
      await writeFile(file, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const owner = Number(await readFile(file, 'utf8').catch(() => '0'));
    if (isRunning(owner))
      throw new InvalidArgumentError(
        `process ${owner} is reproducing into ${folder}: wait for it, or choose another --output (if it is something else, delete ${file})`,
      );
    await rm(file, { force: true });
  }
}

function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid) || pid < 1 || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
