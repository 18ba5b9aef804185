import { openSync, readSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InvalidArgumentError } from '../../errors.ts';
import type { Store } from '../stores/store.ts';

export { constants, createReadStream } from 'node:fs';
export {
  copyFile,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  writeFile,
} from 'node:fs/promises';

/** A file that is read without waiting. @returns what reads: into `target`, from where in it, how much, from where. */
export function openForReading(
  path: string,
): (target: Uint8Array, offset: number, length: number, position: number) => number {
  const descriptor = openSync(path, 'r');
  return (target, offset, length, position) => readSync(descriptor, target, offset, length, position);
}

/** What the names of temporary folders begin with. */
export const temporaryPrefix = (): string => join(tmpdir(), 'iso-diffusion-');

/** In a browser it chooses where files are kept. @throws {InvalidArgumentError} always: in Node it is the file system. */
export function useStore(_store?: Store): void {
  throw new InvalidArgumentError('useStore is for browsers: in Node every path is one of the file system');
}
