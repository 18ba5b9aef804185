import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { DatasetError, errorText } from '../../../errors.ts';
import { isGzip } from '../../../files/known-files.ts';
import { readWholeFile } from '../../../files/regular-file.ts';

/* What the sources that are files on a disk share. */

/** Text that changes when one of the files is rewritten: paths, sizes and times of modification. */
export async function fileStates(paths: readonly string[]): Promise<string> {
  const states = await Promise.all(
    paths.map(async (path) => {
      const { size, mtimeMs } = await stat(path).catch((cause: unknown) => {
        throw new DatasetError(`${path} cannot be read: ${errorText(cause)}`, { cause });
      });
      return [path, size, mtimeMs];
    }),
  );
  return JSON.stringify(states);
}

/** Limit of files that are parsed as a whole; MNIST has 47 MB, a batch of CIFAR-10 31 MB. */
const MAX_BYTES = 1024 ** 3;

/** The bytes of a file, gunzipped if they are gzip, whatever its name. @throws {DatasetError} when that fails or is too large. */
export async function readUnpacked(path: string): Promise<Uint8Array> {
  const bytes = await readWholeFile(path, MAX_BYTES, DatasetError);
  if (!isGzip(bytes)) return bytes;
  return promisify(gunzip)(bytes, { maxOutputLength: MAX_BYTES }).catch((cause: Error) => {
    throw new DatasetError(`${path} cannot be gunzipped into at most ${MAX_BYTES} bytes: ${cause.message}`, { cause });
  });
}
