import { InvalidArgumentError } from '../errors.ts';
import { exists } from '../files/regular-file.ts';
import { HUB_ID } from '../hub/repository.ts';
import { nearestName } from '../registry.ts';
import { IMAGE_SET_NAMES } from './images/sources/oxford.ts';
import { isPointFile } from './points/point-files.ts';
import { isSyntheticName, SYNTHETIC_SETS } from './points/synthetic.ts';

/** Sets of points that have a name. */
export const POINT_SET_NAMES: readonly string[] = Object.keys(SYNTHETIC_SETS);
const KNOWN = [...POINT_SET_NAMES, ...IMAGE_SET_NAMES];

/**
 * Tells points from images, by what a user names. Names of sets come first, as in the loaders. Files of points have endings of
 * their own; every other file or folder is images, and so is a data set of the Hub.
 *
 * @throws {InvalidArgumentError} when there is neither such a set nor such a file; names the nearest set.
 */
export async function dataSetKind(source: string): Promise<'points' | 'images'> {
  if (KNOWN.includes(source)) return isSyntheticName(source) ? 'points' : 'images';
  if (isPointFile(source)) return 'points';
  if ((await exists(source)) || HUB_ID.test(source)) return 'images';
  const near = nearestName(source, KNOWN);
  throw new InvalidArgumentError(
    `data set '${source}' is unknown: use ${KNOWN.join(', ')}, a file or folder, of which there is none at this path, or owner/name of a data set of the Hub.${near === undefined ? '' : ` Did you mean '${near}'?`}`,
  );
}
