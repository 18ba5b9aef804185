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

/** What the names of temporary folders begin with. */
export const temporaryPrefix = (): string => join(tmpdir(), 'iso-diffusion-');

/** In a browser it chooses where files are kept. @throws {InvalidArgumentError} always: in Node it is the file system. */
export function useStore(_store?: Store): void {
  throw new InvalidArgumentError('useStore is for browsers: in Node every path is one of the file system');
}
