import { readdir, rename, rm } from '#platform/fs';
import { basename, dirname, join } from '#platform/path';
import { CheckpointError, InvalidArgumentError } from '../../errors.ts';
import { removeLeftovers, syncDirectory, withTemporaryName } from '../../files/atomic.ts';
import { freePath } from '../../files/regular-file.ts';
import {
  asCheckpointError,
  type Head,
  looksIntact,
  readHead,
  stateFile,
  tensorsFile,
  verifyTensors,
} from './checkpoint.ts';

// The checkpoints in an output folder, which may be of several runs.

const folderPattern = /^checkpoint-(\d+)(?:-(\d+))?$/;

/** A checkpoint that was passed over because it cannot be read, and why. */
export interface SkippedCheckpoint {
  readonly dir: string;
  readonly error: CheckpointError;
}

/**
 * Finds the newest checkpoint of `rootDir` whose checksums hold, trying from the newest to the oldest. The newest is the
 * one that was written last. Its step may be lower than that of another run's.
 *
 * @returns its folder and step, both undefined if there is none, and the damaged ones passed over on the way.
 * @throws CheckpointError if `rootDir` exists but cannot be listed.
 */
export async function findLatestCheckpoint(
  rootDir: string,
): Promise<{ dir?: string; step?: number; skipped: SkippedCheckpoint[] }> {
  const skipped: SkippedCheckpoint[] = [];
  for (const { dir, head } of await listCheckpoints(rootDir)) {
    try {
      if (head instanceof CheckpointError) throw head;
      const { step } = head;
      await asCheckpointError(dir, () => verifyTensors(dir, head));
      return { dir, step, skipped };
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      skipped.push({ dir, error });
    }
  }
  return { skipped };
}

/**
 * What was written last in `rootDir`: by a run, its newest checkpoint, damaged or not; and of all runs, the highest
 * sequence number and the run that has it.
 */
export async function lastWritten(
  rootDir: string,
  run_id: string | undefined,
): Promise<{ dir: string | undefined; sequence: number; lastRun: string | undefined }> {
  const readable = (await listCheckpoints(rootDir)).filter(isReadable);
  const [last] = readable;
  return {
    dir: readable.find(({ head }) => head.origin?.run_id === run_id)?.dir,
    sequence: last?.head.origin?.sequence ?? 0,
    lastRun: last?.head.origin?.run_id,
  };
}

/**
 * Deletes all but the `keepLimit` checkpoints of a run that were written last, and what dead writers left of theirs.
 * Checkpoints of other runs and folders that hold anything but a checkpoint's two files are not touched. A checkpoint
 * that is visibly damaged (truncated, or a file is missing) does not count as kept: the last good one is never deleted.
 *
 * @param options.run_id default: the checkpoints that name no run.
 * @param options.spared a further checkpoint to keep.
 * @returns the folders that were deleted.
 */
export async function pruneCheckpoints(
  rootDir: string,
  keepLimit: number,
  { run_id, spared }: { run_id?: string | undefined; spared?: string | undefined } = {},
): Promise<string[]> {
  if (!Number.isSafeInteger(keepLimit) || keepLimit < 1) {
    throw new InvalidArgumentError(`The number of checkpoints to keep must be an integer >= 1, not ${keepLimit}.`);
  }
  const deleted: string[] = [];
  let kept = 0;
  for (const { dir, head } of (await listCheckpoints(rootDir)).filter(isReadable)) {
    if (head.origin?.run_id !== run_id || dir === spared) continue;
    if (kept < keepLimit) {
      if (await looksIntact(dir, head)) kept++;
    } else if (await holdsOnlyOurFiles(dir)) {
      await removeFolder(rootDir, dir);
      deleted.push(dir);
    }
  }
  if (kept > 0) await removeDeadWritersFolders(rootDir);
  return deleted;
}

/**
 * Renames a checkpoint to `diverged-checkpoint-<step>`, where neither the look for the latest nor retention finds it.
 *
 * @returns its new path.
 */
export async function setAsideCheckpoint(dir: string): Promise<string> {
  const rootDir = dirname(dir);
  const aside = await freePath(join(rootDir, `diverged-${basename(dir)}`));
  await rename(dir, aside);
  await syncDirectory(rootDir);
  return aside;
}

/** A replaced checkpoint (`.old`) whose replacement never arrived is left for the next write of its step to restore. */
async function removeDeadWritersFolders(rootDir: string): Promise<void> {
  const names = new Set(await readdir(rootDir));
  await removeLeftovers(rootDir, (label) => {
    const replaced = label.endsWith('.old') ? label.slice(0, -'.old'.length) : undefined;
    return replaced === undefined ? folderPattern.test(label) : folderPattern.test(replaced) && names.has(replaced);
  });
}

/** A folder with the name of a checkpoint, and what its state file says, or why it cannot be read. */
interface ListedCheckpoint {
  readonly dir: string;
  readonly head: Head | CheckpointError;
}

function isReadable(listed: ListedCheckpoint): listed is ListedCheckpoint & { readonly head: Head } {
  return !(listed.head instanceof CheckpointError);
}

/** The last written first. Before it come those that cannot be read, after it those of old versions, by their step. */
async function listCheckpoints(rootDir: string): Promise<ListedCheckpoint[]> {
  const order = new Map<string, readonly number[]>();
  const listed: ListedCheckpoint[] = [];
  for (const name of await folderNames(rootDir)) {
    const [, step, number] = folderPattern.exec(name) ?? [];
    if (step === undefined) continue;
    const dir = join(rootDir, name);
    const head = await asCheckpointError(dir, () => readHead(dir)).catch((error: unknown) => {
      if (error instanceof CheckpointError) return error;
      throw error;
    });
    const written = head instanceof CheckpointError ? Number.POSITIVE_INFINITY : (head.origin?.sequence ?? -1);
    order.set(dir, [written, Number(step), Number(number ?? 1)]);
    listed.push({ dir, head });
  }
  return listed.sort((a, b) => descending(order.get(a.dir) ?? [], order.get(b.dir) ?? []));
}

function descending(a: readonly number[], b: readonly number[]): number {
  const first = a.findIndex((value, i) => value !== b[i]);
  return first < 0 || (a[first] ?? 0) > (b[first] ?? 0) ? -1 : 1;
}

async function folderNames(rootDir: string): Promise<string[]> {
  try {
    const entries = await readdir(rootDir, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new CheckpointError(`The checkpoints in ${rootDir} cannot be listed: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

async function holdsOnlyOurFiles(dir: string): Promise<boolean> {
  const names = await readdir(dir);
  return names.length > 0 && names.every((name) => name === tensorsFile || name === stateFile);
}

/** Renamed first, so that a process killed half-way leaves no half-deleted checkpoint under a checkpoint's name. */
async function removeFolder(rootDir: string, dir: string): Promise<void> {
  await withTemporaryName(rootDir, 'checkpoint-0', async (temporary) => {
    await rename(dir, temporary);
    await syncDirectory(rootDir);
    await rm(temporary, { recursive: true, force: true });
  });
}
