import { InvalidArgumentError, NotInBrowserError } from '../../../errors.ts';
import { isPointFile, readPoints } from '../../points/point-files.ts';
import type { PointSet, RawPoints } from '../../points/points.ts';
import type { StoredChoice } from '../../points/stored-points.ts';

/** Reads a file of text or of NumPy. @throws {NotInBrowserError} for everything else. */
export async function readStored(
  source: string,
  { noise }: StoredChoice,
): Promise<RawPoints & Pick<PointSet, 'hubId'>> {
  if (!isPointFile(source))
    throw new NotInBrowserError(
      `'${source}' cannot be opened in a browser, where there are synthetic sets, .csv, .tsv, .txt and .npy files: pass the numbers to pointsFromArray`,
    );
  if (noise !== undefined)
    throw new InvalidArgumentError(`noise is ${noise}, but '${source}' is stored: its points are used as they are`);
  return readPoints(source);
}
