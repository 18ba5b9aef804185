import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, rmdir, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { InvalidArgumentError } from '../errors.ts';
import { withTemporaryName, writeFileSynced } from './atomic.ts';
import { readJsonFile } from './json.ts';
import { isRunning, type ProcessIdentity, processIdentitySchema, SILENT_MS, thisProcess } from './process-identity.ts';

const LOCK = '.iso-diffusion.lock';
const RENEWAL_MS = 10_000;
const MAX_BYTES = 4096;

/** The lock on a folder, for as long as the work under it lasts. */
export interface FolderLock {
  /**
   * For before a write that another process must not get in the way of.
   *
   * @throws {InvalidArgumentError} when another process has taken over the lock.
   */
  refuseIfLost(): Promise<void>;
}

/**
 * Runs `work` under a lock on a folder, which is made where there is none: two processes would write the same files. The
 * lock is `.iso-diffusion.lock` in the folder, and says which process of which host holds it. The lock of a process of this
 * machine is taken over at once when the process has ended. A process of another machine cannot be asked, so its lock is
 * taken over only when it was not renewed for an hour; a living one renews it every ten seconds.
 *
 * @param advice what to do instead, for the error.
 * @throws {InvalidArgumentError} that names host and process, when another work holds the lock.
 */
export async function withFolderLock<T>(
  folder: string,
  advice: string,
  work: (lock: FolderLock) => Promise<T>,
): Promise<T> {
  const made = await mkdir(folder, { recursive: true });
  const file = await acquire(folder, advice);
  const renewal = setInterval(() => void renew(file), RENEWAL_MS).unref();
  try {
    return await work({
      refuseIfLost: async () => {
        const owners = await readdir(join(folder, LOCK)).catch((): string[] => []);
        if (owners.length === 0 || owners.includes(basename(file))) return;
        throw new InvalidArgumentError(
          `another process took over ${folder}, because this one gave no sign of life for an hour or its lock was deleted: nothing more is written`,
        );
      },
    });
  } finally {
    clearInterval(renewal);
    await unlink(file).catch(() => undefined);
    await rmdir(join(folder, LOCK)).catch(() => undefined);
    if (made !== undefined) await removeEmpty(resolve(folder), resolve(made));
  }
}

/** Work that wrote nothing leaves no folder behind: removes empty ones from `folder` up to `top`. */
async function removeEmpty(folder: string, top: string): Promise<void> {
  const removed = await rmdir(folder).then(
    () => true,
    () => false,
  );
  if (removed && folder !== top) await removeEmpty(dirname(folder), top);
}

/** Writes anew what the file holds: the time of the change is then the file system's, whatever this machine's clock says. */
async function renew(file: string): Promise<void> {
  const handle = await open(file, 'r+').catch(() => undefined);
  try {
    await handle?.write(ownText(), 0);
  } catch {
    // The next renewal tries again.
  } finally {
    await handle?.close().catch(() => undefined);
  }
}

function ownText(): string {
  return JSON.stringify(thisProcess());
}

/**
 * The lock is a folder with one file of its owner's, and appears with it by one rename, which fails where such a folder
 * is not empty. Taking over deletes the file of the dead owner, whose name nobody else uses, and renames again: of two
 * processes that do so at once, one wins.
 *
 * @returns the path of the file.
 */
async function acquire(folder: string, advice: string): Promise<string> {
  const lock = join(folder, LOCK);
  const name = `${thisProcess().machine}-${process.pid}-${randomBytes(6).toString('hex')}.json`;
  let acquired = false;
  await withTemporaryName(folder, LOCK, async (temporary) => {
    await mkdir(temporary);
    try {
      await writeFileSynced(join(temporary, name), ownText());
      while (!acquired) {
        acquired = await renamed(temporary, lock);
        if (!acquired) await removeDeadOwner(folder, await stat(join(temporary, name)), advice);
      }
    } finally {
      if (!acquired) await rm(temporary, { recursive: true, force: true });
    }
  });
  return join(lock, name);
}

async function renamed(temporary: string, lock: string): Promise<boolean> {
  // Windows does not rename onto an empty folder.
  if (process.platform === 'win32') await rmdir(lock).catch(() => undefined);
  try {
    await rename(temporary, lock);
    return true;
  } catch (error) {
    const isTaken = (await stat(lock).catch(() => undefined))?.isDirectory();
    const { code } = error as NodeJS.ErrnoException;
    if (isTaken || code === 'ENOTEMPTY' || code === 'EEXIST') return false;
    throw error;
  }
}

/** @param now a file that was just written: times on one disk are by one clock. @throws when the owner may live. */
async function removeDeadOwner(folder: string, now: { readonly mtimeMs: number }, advice: string): Promise<void> {
  const lock = join(folder, LOCK);
  const [name] = await readdir(lock).catch(() => []);
  if (name === undefined) return;
  const file = join(lock, name);
  const renewed = await stat(file).catch(() => undefined);
  // Its owner has just released it.
  if (!renewed) return;
  const owner = await readJsonFile(file, processIdentitySchema, { maxBytes: MAX_BYTES }).catch(() => undefined);
  const silence = Math.max(0, now.mtimeMs - renewed.mtimeMs);
  if (owner?.machine === thisProcess().machine ? !isRunning(owner) : silence > SILENT_MS) {
    await unlink(file).catch(() => undefined);
    return;
  }
  throw new InvalidArgumentError(
    `${folder} is in use by ${ownerText(owner)}, last sign of life ${Math.round(silence / 1000)} s ago: wait for it, or ${advice}. If that process has ended, delete ${lock}`,
  );
}

function ownerText(owner: ProcessIdentity | undefined): string {
  if (!owner) return 'a process that cannot be identified';
  const { host, machine, pid } = owner;
  if (machine !== thisProcess().machine) return `process ${pid} of host '${host}'`;
  return `${pid === process.pid ? 'this process, ' : ''}process ${pid} of this host, '${host}'`;
}
