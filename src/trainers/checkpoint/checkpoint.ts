import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CheckpointError, FileFormatError, InvalidArgumentError } from '../../errors.ts';
import {
  removeLeftovers,
  syncDirectory,
  withTemporaryName,
  writeDirectoryAtomic,
  writeFileSynced,
} from '../../files/atomic.ts';
import type { JsonObject } from '../../files/json.ts';
import { readJsonFile, stringifySorted } from '../../files/json.ts';
import { type NamedTensor, readSafetensors, safetensorsChunks } from '../../files/safetensors.ts';

/** Everything a run needs to go on: `state` must be JSON as it is (no NaN, no undefined). */
export interface CheckpointContent {
  readonly tensors: ReadonlyMap<string, NamedTensor>;
  readonly state: JsonObject;
}

interface Checkpoint extends CheckpointContent {
  readonly step: number;
}

const formatVersion = 1;
const tensorsFile = 'state.safetensors';
const stateFile = 'trainer_state.json';
const folderPattern = /^checkpoint-\d+$/;
const maxStateBytes = 256 * 1024 * 1024;

const headSchema = z.strictObject({
  format_version: z.literal(formatVersion),
  step: z.int().nonnegative(),
  tensors_bytes: z.int().nonnegative(),
  tensors_sha256: z.string(),
  state: z.record(z.string(), z.unknown()),
});
const fileSchema = headSchema.extend({ sha256: z.string() });
type Head = z.infer<typeof headSchema>;

/**
 * Writes `<rootDir>/checkpoint-<step>/` with `state.safetensors` and `trainer_state.json`. The folder appears under its
 * name only when all of it is on the disk; a process killed before that leaves nothing but a hidden temporary folder.
 * A checkpoint of the same step is replaced. The tensors must not change until the promise resolves.
 *
 * @returns the path of the folder.
 * @throws InvalidArgumentError if `step` or the content cannot be stored.
 * @throws the operating system's error if it cannot be written; older checkpoints are then untouched.
 */
export async function writeCheckpoint(
  rootDir: string,
  step: number,
  { tensors, state }: CheckpointContent,
): Promise<string> {
  if (!Number.isSafeInteger(step) || step < 0) {
    throw new InvalidArgumentError(`The step of a checkpoint must be an integer >= 0, not ${step}.`);
  }
  const dir = join(rootDir, `checkpoint-${step}`);
  const chunks = [...safetensorsChunks(tensors)];
  const hash = createHash('sha256');
  for (const chunk of chunks) hash.update(chunk);
  const head: Head = {
    format_version: formatVersion,
    step,
    tensors_bytes: chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0),
    tensors_sha256: hash.digest('hex'),
    state,
  };
  const json = stringifySorted({ ...head, state, sha256: headDigest(head) });
  await writeDirectoryAtomic(dir, async (temporary) => {
    await writeFileSynced(join(temporary, tensorsFile), chunks);
    await writeFileSynced(join(temporary, stateFile), json);
  });
  return dir;
}

/**
 * Reads a checkpoint folder and verifies every byte that matters against its checksums.
 * @throws CheckpointError if a file is missing, truncated, damaged or of another format version.
 */
export async function readCheckpoint(dir: string): Promise<Checkpoint> {
  return asCheckpointError(dir, async () => {
    const head = await verify(dir);
    const tensors = await readSafetensors(join(dir, tensorsFile));
    // The file was parsed from JSON, so what it holds is JSON.
    return { step: head.step, tensors, state: head.state as JsonObject };
  });
}

/** A checkpoint that was passed over because it cannot be read, and why. */
export interface SkippedCheckpoint {
  readonly dir: string;
  readonly error: CheckpointError;
}

/**
 * Finds the newest checkpoint of `rootDir` whose checksums hold, trying from the newest to the oldest.
 *
 * @returns its folder and step, both undefined if there is none, and the damaged ones passed over on the way.
 * @throws CheckpointError if `rootDir` exists but cannot be listed.
 */
export async function findLatestCheckpoint(
  rootDir: string,
): Promise<{ dir?: string; step?: number; skipped: SkippedCheckpoint[] }> {
  const skipped: SkippedCheckpoint[] = [];
  for (const { dir } of await listCheckpoints(rootDir)) {
    try {
      const { step } = await asCheckpointError(dir, () => verify(dir));
      return { dir, step, skipped };
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      skipped.push({ dir, error });
    }
  }
  return { skipped };
}

/**
 * Deletes all but the newest `keepLimit` checkpoints of `rootDir`, and what dead writers left of theirs. Folders that
 * hold anything but a checkpoint's two files are not touched. A checkpoint that is visibly damaged (a file missing,
 * truncated, or a state that fails its checksum) does not count as kept, so the last good one is never deleted.
 *
 * @returns the folders that were deleted.
 */
export async function pruneCheckpoints(rootDir: string, keepLimit: number): Promise<string[]> {
  if (!Number.isSafeInteger(keepLimit) || keepLimit < 1) {
    throw new InvalidArgumentError(`The number of checkpoints to keep must be an integer >= 1, not ${keepLimit}.`);
  }
  const deleted: string[] = [];
  let kept = 0;
  for (const { dir } of await listCheckpoints(rootDir)) {
    if (kept < keepLimit) {
      if (await looksIntact(dir)) kept++;
    } else if (await holdsOnlyOurFiles(dir)) {
      await removeFolder(rootDir, dir);
      deleted.push(dir);
    }
  }
  if (kept > 0) await removeDeadWritersFolders(rootDir);
  return deleted;
}

/** A replaced checkpoint (`.old`) whose replacement never arrived is left for the next write of its step to restore. */
async function removeDeadWritersFolders(rootDir: string): Promise<void> {
  const names = new Set(await readdir(rootDir));
  await removeLeftovers(rootDir, (label) => {
    const replaced = label.endsWith('.old') ? label.slice(0, -'.old'.length) : undefined;
    return replaced === undefined ? folderPattern.test(label) : folderPattern.test(replaced) && names.has(replaced);
  });
}

async function listCheckpoints(rootDir: string): Promise<{ dir: string; step: number }[]> {
  try {
    const entries = await readdir(rootDir, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory() && folderPattern.test(entry.name))
      .map((entry) => ({ dir: join(rootDir, entry.name), step: Number(entry.name.slice('checkpoint-'.length)) }))
      .sort((a, b) => b.step - a.step);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new CheckpointError(`The checkpoints in ${rootDir} cannot be listed: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

async function verify(dir: string): Promise<Head> {
  const head = await readHead(dir);
  await verifyTensors(dir, head);
  return head;
}

async function readHead(dir: string): Promise<Head> {
  const path = join(dir, stateFile);
  const { sha256, ...head } = await readJsonFile(path, fileSchema, { maxBytes: maxStateBytes });
  if (headDigest(head) !== sha256) throw new CheckpointError(`${path} does not match its checksum: it is damaged.`);
  return head;
}

async function verifyTensors(dir: string, head: Head): Promise<void> {
  const path = join(dir, tensorsFile);
  await verifySize(path, head.tensors_bytes);
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
  if (hash.digest('hex') !== head.tensors_sha256) {
    throw new CheckpointError(`${path} does not match its checksum: it is damaged.`);
  }
}

async function verifySize(path: string, expected: number): Promise<void> {
  const status = await stat(path);
  if (!status.isFile() || status.size !== expected) {
    throw new CheckpointError(`${path} has ${status.size} bytes instead of ${expected}: it is damaged.`);
  }
}

/** Everything but the checksum of the tensors, which would take as long as reading them. */
async function looksIntact(dir: string): Promise<boolean> {
  try {
    const head = await readHead(dir);
    await verifySize(join(dir, tensorsFile), head.tensors_bytes);
    return true;
  } catch {
    return false;
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

/** The checksum over everything else in the state file, in its one canonical form. */
function headDigest(head: Head): string {
  const text = stringifySorted({ ...head, state: head.state as JsonObject });
  return createHash('sha256').update(text).digest('hex');
}

async function asCheckpointError<T>(dir: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    const isExpected = error instanceof FileFormatError || (error as NodeJS.ErrnoException).code !== undefined;
    if (!isExpected) throw error;
    throw new CheckpointError(`The checkpoint ${dir} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}
