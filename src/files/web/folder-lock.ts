import { resolve } from '#platform/path';
import { InvalidArgumentError } from '../../errors.ts';
import type { FolderLock } from '../folder-lock.ts';

/** For pages without https, where browsers have no locks between pages. */
const held = new Set<string>();

/**
 * Runs `work` under a lock on a folder of the store: no other page or worker of this site gets it meanwhile. The browser
 * gives it up with the page.
 *
 * @param advice what to do instead, for the error.
 * @throws {InvalidArgumentError} when other work holds the lock.
 */
export async function withFolderLock<T>(
  folder: string,
  advice: string,
  work: (lock: FolderLock) => Promise<T>,
): Promise<T> {
  const name = `iso-diffusion ${resolve(folder)}`;
  const inUse = () =>
    new InvalidArgumentError(`${folder} is in use by other work of this page, or by another page: wait, or ${advice}`);
  const lock = { refuseIfLost: async () => undefined };
  const { locks } = navigator;
  if (locks !== undefined)
    return locks.request(name, { ifAvailable: true }, (granted) => {
      if (!granted) throw inUse();
      return work(lock);
    });
  if (held.has(name)) throw inUse();
  held.add(name);
  try {
    return await work(lock);
  } finally {
    held.delete(name);
  }
}
