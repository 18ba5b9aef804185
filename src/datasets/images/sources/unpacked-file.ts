import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { DatasetError } from '../../../errors.ts';
import { withRegularFile } from '../../../files/regular-file.ts';

/** Files that are parsed as a whole; MNIST has 47 MB, a batch of CIFAR-10 31 MB. */
const MAX_BYTES = 1024 ** 3;

/** The bytes of a file, gunzipped when its name ends in `.gz`. @throws {DatasetError} when that fails or is too large. */
export async function readUnpacked(path: string): Promise<Uint8Array> {
  const fail = (message: string, options?: ErrorOptions) => new DatasetError(message, options);
  const bytes = await withRegularFile(path, fail, (file) => {
    if (file.size > MAX_BYTES)
      throw new DatasetError(`${path} has ${file.size} bytes; at most ${MAX_BYTES} are read`);
    return file.read(0, file.size);
  });
  if (!/\.gz$/i.test(path)) return bytes;
  return promisify(gunzip)(bytes, { maxOutputLength: MAX_BYTES }).catch((cause: Error) => {
    throw new DatasetError(`${path} cannot be gunzipped into at most ${MAX_BYTES} bytes: ${cause.message}`, {
      cause,
    });
  });
}
