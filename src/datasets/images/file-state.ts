import { stat } from 'node:fs/promises';
import { DatasetError } from '../../errors.ts';

/** Text that changes when one of the files is written anew: paths, sizes and times of modification. */
export async function fileStates(paths: readonly string[]): Promise<string> {
  const states = await Promise.all(
    paths.map(async (path) => {
      const { size, mtimeMs } = await stat(path).catch((cause: Error) => {
        throw new DatasetError(`${path} cannot be read: ${cause.message}`, { cause });
      });
      return [path, size, mtimeMs];
    }),
  );
  return JSON.stringify(states);
}
