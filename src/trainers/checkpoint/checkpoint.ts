import { createReadStream, stat } from '#platform/fs';
import { createHash, sha256Of } from '#platform/hash';
import { join } from '#platform/path';
import { CheckpointError, FileFormatError, InvalidArgumentError } from '../../errors.ts';
import { interruptedReplacement, writeDirectoryAtomic, writeFileSynced } from '../../files/atomic.ts';
import type { JsonObject } from '../../files/json.ts';
import { readJsonFile, stringifySorted } from '../../files/json.ts';
import { exists, freePath } from '../../files/regular-file.ts';
import { type NamedTensor, readSafetensors, safetensorsChunks } from '../../files/safetensors.ts';
import * as z from '../../zod.ts';

/** Everything a run needs to go on: `state` must be JSON as it is (no NaN, no undefined). */
export interface CheckpointContent {
  readonly tensors: ReadonlyMap<string, NamedTensor>;
  readonly state: JsonObject;
}

/** Which run wrote a checkpoint, and when. */
export interface CheckpointOrigin {
  /** Random, one for each run. A run that is continued keeps it. */
  readonly run_id: string;
  /** Grows with every checkpoint that is written into a folder, whatever its step and its run. */
  readonly sequence: number;
}

interface Checkpoint extends CheckpointContent {
  readonly step: number;
  /** Undefined in checkpoints of older versions. */
  readonly origin: CheckpointOrigin | undefined;
}

const formatVersion = 1;
export const tensorsFile = 'state.safetensors';
export const stateFile = 'trainer_state.json';
const maxStateBytes = 256 * 1024 * 1024;

const headSchema = z.strictObject({
  format_version: z.literal(formatVersion),
  step: z.int().check(z.nonnegative()),
  tensors_bytes: z.int().check(z.nonnegative()),
  tensors_sha256: z.string(),
  state: z.record(z.string(), z.unknown()),
  origin: z.optional(z.strictObject({ run_id: z.string(), sequence: z.int().check(z.nonnegative()) })),
});
const fileSchema = z.extend(headSchema, { sha256: z.string() });
export type Head = z.infer<typeof headSchema>;

/**
 * Writes `<rootDir>/checkpoint-<step>/` with `state.safetensors` and `trainer_state.json`. The folder appears under its
 * name only when all of it is on the disk; a process killed before that leaves nothing but a hidden temporary folder.
 * A checkpoint of the same run and step is replaced. Where another run has one, this one is `checkpoint-<step>-2`, or the
 * next number that is free. The tensors must not change until the promise resolves.
 *
 * @returns the path of the folder.
 * @throws InvalidArgumentError if `step` or the content cannot be stored.
 * @throws the operating system's error if it cannot be written; older checkpoints are then untouched.
 */
export async function writeCheckpoint(
  rootDir: string,
  step: number,
  { tensors, state }: CheckpointContent,
  origin?: CheckpointOrigin,
): Promise<string> {
  if (!Number.isSafeInteger(step) || step < 0) {
    throw new InvalidArgumentError(`The step of a checkpoint must be an integer >= 0, not ${step}.`);
  }
  const chunks = [...safetensorsChunks(tensors)];
  const head: Head = {
    format_version: formatVersion,
    step,
    tensors_bytes: chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0),
    tensors_sha256: await sha256Of(chunks),
    state,
    ...(origin ? { origin: { ...origin } } : {}),
  };
  const json = stringifySorted({ ...canonical(head), sha256: headDigest(head) });
  const dir = await freePath(join(rootDir, `checkpoint-${step}`), (path) => isFreeFor(origin?.run_id, path));
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
    return { step: head.step, tensors, state: head.state as JsonObject, origin: head.origin };
  });
}

/** Whether a checkpoint of a run may be written to the path: nothing is there, or what the run itself wrote. */
async function isFreeFor(run_id: string | undefined, dir: string): Promise<boolean> {
  // A process killed while it replaced a checkpoint leaves it under another name.
  const there = (await exists(dir)) ? dir : await interruptedReplacement(dir);
  if (there === undefined) return true;
  const head = await readHead(there).catch(() => undefined);
  return head !== undefined && head.origin?.run_id === run_id;
}

async function verify(dir: string): Promise<Head> {
  const head = await readHead(dir);
  await verifyTensors(dir, head);
  return head;
}

export async function readHead(dir: string): Promise<Head> {
  const path = join(dir, stateFile);
  const { sha256, ...head } = await readJsonFile(path, fileSchema, { maxBytes: maxStateBytes });
  if (headDigest(head) !== sha256) throw new CheckpointError(`${path} does not match its checksum: it is damaged.`);
  return head;
}

export async function verifyTensors(dir: string, head: Head): Promise<void> {
  const path = join(dir, tensorsFile);
  await verifySize(path, head.tensors_bytes);
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Uint8Array);
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
export async function looksIntact(dir: string, { tensors_bytes }: Head): Promise<boolean> {
  return verifySize(join(dir, tensorsFile), tensors_bytes).then(
    () => true,
    () => false,
  );
}

/** The checksum over everything else in the state file, in its one canonical form. */
function headDigest(head: Head): string {
  return createHash('sha256')
    .update(stringifySorted(canonical(head)))
    .digest('hex');
}

/** What is written, and parsed from JSON again. */
function canonical({ origin, ...head }: Head): JsonObject {
  return { ...head, state: head.state as JsonObject, ...(origin ? { origin: { ...origin } } : {}) };
}

export async function asCheckpointError<T>(dir: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    const isExpected = error instanceof FileFormatError || (error as NodeJS.ErrnoException).code !== undefined;
    if (!isExpected) throw error;
    throw new CheckpointError(`The checkpoint ${dir} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}
