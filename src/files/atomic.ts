import { lstat, mkdir, open, readdir, readlink, realpath, rename, rm, writeFile } from '#platform/fs';
import { basename, dirname, join, resolve } from '#platform/path';
import { isWindows, randomDigits } from '#platform/system';
import { isRunning, SILENT_MS, thisProcess } from './process-identity.ts';
import { exists } from './regular-file.ts';

/*
 * Files and folders that appear whole or not at all. What is unfinished has a hidden temporary name beside the final
 * one and is renamed at the end. A killed writer leaves its temporary behind; the next writer removes it.
 */

export type FileContent = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/**
 * Writes a file so that `path` holds either its old content or all of the new one, even when the process is killed or
 * the power fails: temporary sibling, fsync, rename, fsync of the folder. Missing folders are made; a symbolic link is
 * followed. Chunks of an iterable are written one after another, so a large file need not be in memory.
 *
 * @throws the operating system's error (`ENOSPC`, `EACCES`, ...), or what `content` throws; `path` is then untouched.
 * @example await writeFileAtomic('out/config.json', stringifySorted(config));
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  const target = await followLink(path);
  const folder = dirname(target);
  await mkdir(folder, { recursive: true });
  await withTemporaryName(folder, basename(target), async (temporary) => {
    try {
      await writeFileSynced(temporary, content);
      await rename(temporary, target);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  });
  await syncDirectory(folder);
}

/** Where a path leads by its symbolic links, also by one whose target is not there yet. */
async function followLink(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    const link = await readlink(path).catch(() => undefined);
    return link === undefined ? resolve(path) : resolve(dirname(path), link);
  }
}

/** Writes a new file and waits until it is on the disk. Not atomic by itself: for files in a temporary folder. */
export async function writeFileSynced(path: string, content: FileContent): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    await writeFile(handle, content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Waits until the names in a folder are on the disk. Does nothing where folders cannot be opened (Windows). */
export async function syncDirectory(path: string): Promise<void> {
  if (isWindows) return;
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Fills a new folder through `fill` under a temporary name beside `final`, then puts it in place of `final`.
 * A folder already there is kept until the new one is in place, and is still there if anything fails. A symbolic link
 * is followed: it stays, and the folder that it leads to is replaced.
 *
 * @throws what `fill` throws, or the operating system's error.
 */
export async function writeDirectoryAtomic(final: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const target = await followLink(final);
  const folder = dirname(target);
  await mkdir(folder, { recursive: true });
  await removeLeftovers(folder, (label) => label === basename(target));
  await withTemporaryName(folder, basename(target), async (temporary) => {
    try {
      await mkdir(temporary);
      await fill(temporary);
      await syncDirectory(temporary);
      await replaceDirectory(temporary, target);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
  });
}

/**
 * Renames the finished folder `temporary` to `final`. No call of Node exchanges two folders at once, so an existing
 * `final` is first moved to `.tmp-<name>.old-...` beside it, and back should the second rename fail. A process killed
 * between the two leaves the old content under that name; the next call moves it back first.
 */
export async function replaceDirectory(temporary: string, final: string): Promise<void> {
  const target = resolve(final);
  const folder = dirname(target);
  await restoreInterrupted(target);
  if (!(await exists(target))) {
    await rename(temporary, target);
    await syncDirectory(folder);
    return;
  }
  await withTemporaryName(folder, `${basename(target)}.old`, async (old) => {
    await rename(target, old);
    try {
      await rename(temporary, target);
    } catch (error) {
      await rename(old, target);
      throw error;
    }
    await syncDirectory(folder);
    await rm(old, { recursive: true, force: true });
  });
}

/** The path under which an interrupted {@link replaceDirectory} left the old content of `final`, if it did. */
export async function interruptedReplacement(final: string): Promise<string | undefined> {
  const target = await followLink(final);
  const folder = dirname(target);
  const names = await readdir(folder).catch(() => []);
  for (const name of names)
    if (await isLeftover(folder, name, (label) => label === `${basename(target)}.old`)) return join(folder, name);
  return undefined;
}

/** Removes what dead writers left in `folder` under temporary names with a label that `isLabel` accepts. */
export async function removeLeftovers(folder: string, isLabel: (label: string) => boolean): Promise<void> {
  for (const name of await readdir(folder)) {
    if (await isLeftover(folder, name, isLabel)) await rm(join(folder, name), { recursive: true, force: true });
  }
}

/** Moves back what an interrupted {@link replaceDirectory} left of `final`, for those who read it. */
export async function restoreInterrupted(final: string): Promise<void> {
  const target = resolve(final);
  for (;;) {
    const old = await interruptedReplacement(target);
    if (old === undefined) return;
    if (await exists(target)) await rm(old, { recursive: true, force: true });
    else await rename(old, target);
  }
}

/** The names this process is writing under now; a name of our process id that is not here is a dead namesake's. */
const active = new Set<string>();

const pattern = /^\.tmp-(.+)-([0-9a-f]{12})-(\d+)-[0-9a-f]{12}$/;

/**
 * Gives `use` a hidden path in `folder` for something unfinished: `.tmp-<label>-<machine>-<process id>-<random>`. `use`
 * renames or removes what it puts there.
 */
export async function withTemporaryName(
  folder: string,
  label: string,
  use: (temporary: string) => Promise<void>,
): Promise<void> {
  const name = `.tmp-${label}-${thisProcess().machine}-${thisProcess().pid}-${randomDigits()}`;
  active.add(name);
  try {
    await use(join(folder, name));
  } finally {
    active.delete(name);
  }
}

/**
 * Whether `name` is a temporary name of a label that `isLabel` accepts, left behind by a writer that no longer runs. A
 * writer on another machine cannot be asked: it counts as ended when nothing changed for an hour.
 */
async function isLeftover(folder: string, name: string, isLabel: (label: string) => boolean): Promise<boolean> {
  const [, label, machine, pid] = pattern.exec(name) ?? [];
  if (label === undefined || active.has(name) || !isLabel(label)) return false;
  if (machine === thisProcess().machine)
    return Number(pid) === thisProcess().pid || !isRunning({ pid: Number(pid), started: null });
  const status = await lstat(join(folder, name)).catch(() => undefined);
  return status !== undefined && Date.now() - Math.max(status.mtimeMs, status.ctimeMs) > SILENT_MS;
}
