import { InvalidArgumentError } from '../../errors.ts';
import { exists } from '../../files/regular-file.ts';
import { isPointFile } from '../points/point-files.ts';
import { isSyntheticName, SYNTHETIC_SETS } from '../points/synthetic.ts';

/** The sets of images that a page can open by name. */
export const IMAGE_SET_NAMES: readonly string[] = ['digits'];

/**
 * Tells points from images, as in Node; there are no sets of the Hub and no parquet files.
 *
 * @throws {InvalidArgumentError} when there is neither such a set nor such a file.
 */
export async function dataSetKind(source: string): Promise<'points' | 'images'> {
  if (isSyntheticName(source) || isPointFile(source)) return 'points';
  if (IMAGE_SET_NAMES.includes(source) || (await exists(source))) return 'images';
  const known = [...Object.keys(SYNTHETIC_SETS), ...IMAGE_SET_NAMES];
  throw new InvalidArgumentError(
    `data set '${source}' is unknown in a browser: use ${known.join(', ')}, or load it with pointsFromArray or loadImages`,
  );
}
