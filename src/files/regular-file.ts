import { constants, createReadStream, open, stat } from '#platform/fs';
import { createHash } from '#platform/hash';
import { join, parse } from '#platform/path';
import { errorText, FileFormatError, IsoDiffusionError } from '../errors.ts';
import { describeFile, HEAD_BYTES, isLfsPointer } from './known-files.ts';

/** Whether there is something at the path: a file, a folder or anything else. */
export async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

/**
 * The path, or the same with the first number from 2 that makes it free: `metrics.jsonl`, `metrics-2.jsonl`, ...
 *
 * @param isFree default: there is nothing.
 */
export async function freePath(
  file: string,
  isFree: (candidate: string) => Promise<boolean> = async (candidate) => !(await exists(candidate)),
): Promise<string> {
  const { dir, name, ext } = parse(file);
  let candidate = file;
  for (let number = 2; !(await isFree(candidate)); number++) candidate = join(dir, `${name}-${number}${ext}`);
  return candidate;
}

/** Whether there is a regular file at the path; links are followed. */
export async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

/** Whether there is a folder at the path; links are followed. */
export async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/**
 * The digest in hex of `prefix` and the contents of files, one after another.
 *
 * @throws {FileFormatError} when a file cannot be read.
 */
export async function fileDigest(
  paths: readonly string[],
  { algorithm = 'sha256', prefix = '' }: { algorithm?: 'sha512' | 'sha256' | 'sha1' | 'md5'; prefix?: string } = {},
): Promise<string> {
  const hash = createHash(algorithm).update(prefix);
  for (const path of paths) {
    try {
      for await (const chunk of createReadStream(path)) hash.update(chunk);
    } catch (cause) {
      throw new FileFormatError(`${path} cannot be read: ${errorText(cause)}`, { cause });
    }
  }
  return hash.digest('hex');
}

/** Node reads at most 2^31 - 1 bytes at a time; smaller pieces also keep other work of the thread pool going. */
const PIECE_BYTES = 64 * 1024 * 1024;

/** What `withRegularFile` hands to its callback. */
export interface RegularFile {
  /** Length in bytes when the file was opened. */
  readonly size: number;
  /** The bytes from `begin` to `end` (exclusive) in a buffer of their own. */
  read(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Fills `target` with the bytes from `begin` on. */
  readInto(target: Uint8Array, begin: number): Promise<void>;
}

/** The error class of a file format. */
type FailureClass = new (message: string, options?: ErrorOptions) => IsoDiffusionError;

/** A git-lfs pointer is shorter (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md). */
const MAX_POINTER_BYTES = 1024;

/**
 * Opens a regular file for `use` and closes it again. A folder, a pipe or a device is refused instead of waited for, and
 * a git-lfs pointer instead of parsed.
 *
 * @param Failure the error class of the file's format; every error of reading is turned into one.
 */
export async function withRegularFile<T>(
  path: string,
  Failure: FailureClass,
  use: (file: RegularFile) => Promise<T>,
): Promise<T> {
  let handle: Awaited<ReturnType<typeof open>> | undefined;
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
    const opened = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    handle = opened;
    const status = await opened.stat();
    if (!status.isFile()) throw new Failure(`${path} is not a regular file.`);
    const readInto = async (target: Uint8Array, begin: number) => {
      for (let done = 0; done < target.length; ) {
        const length = Math.min(PIECE_BYTES, target.length - done);
        const { bytesRead } = await opened.read(target, done, length, begin + done);
        if (bytesRead === 0) throw new Failure(`${path} became shorter while it was read.`);
        done += bytesRead;
      }
    };
    const read = async (begin: number, end: number) => {
      const bytes = new Uint8Array(end - begin);
      await readInto(bytes, begin);
      return bytes;
    };
    if (status.size < MAX_POINTER_BYTES) {
      const head = await read(0, Math.min(status.size, HEAD_BYTES));
      if (isLfsPointer(head)) throw new Failure(`${path} is ${describeFile(head)}`);
    }
    return await use({ size: status.size, read, readInto });
  } catch (error) {
    if (error instanceof IsoDiffusionError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') throw new Failure(`${path} does not exist.`, { cause: error });
    throw new Failure(`${path} cannot be read: ${errorText(error)}`, { cause: error });
  } finally {
    await handle?.close();
  }
}

/** The whole of a regular file; one of more than `maxBytes` is refused unread. Errors as {@link withRegularFile}. */
export function readWholeFile(path: string, maxBytes: number, Failure: FailureClass): Promise<Uint8Array<ArrayBuffer>> {
  return withRegularFile(path, Failure, (file) => {
    if (file.size > maxBytes)
      throw new Failure(`${path} has ${file.size} bytes, more than the ${maxBytes} that are read.`);
    return file.read(0, file.size);
  });
}

/** The first bytes of a regular file, for {@link describeFile}. Errors as {@link withRegularFile}. */
export function readHead(path: string, Failure: FailureClass): Promise<Uint8Array> {
  return withRegularFile(path, Failure, (file) => file.read(0, Math.min(file.size, HEAD_BYTES)));
}
