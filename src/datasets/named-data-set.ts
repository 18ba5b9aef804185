import { InvalidArgumentError } from '../errors.ts';
import { exists } from '../files/regular-file.ts';
import { HUB_ID } from '../hub/hub-options.ts';
import { nearestName } from '../registry.ts';
import { hubFiles } from './images/sources/hub.ts';
import { NPM_SETS } from './images/sources/npm.ts';
import { OXFORD_SETS } from './images/sources/oxford.ts';
import { imageColumn } from './images/sources/parquet.ts';
import { openTable } from './parquet/table.ts';
import { isPointFile } from './points/point-files.ts';
import { type HubPart, hubChoice } from './points/stored-points.ts';
import { isSyntheticName, SYNTHETIC_SETS } from './points/synthetic.ts';

/** The names of sets of images, short ones last. */
export const IMAGE_SET_NAMES: readonly string[] = [
  'digits',
  ...NPM_SETS.map(({ name }) => name),
  ...OXFORD_SETS.map(({ name }) => name),
  ...OXFORD_SETS.map(({ shortName }) => shortName),
];

/** Sets of points that have a name. */
export const POINT_SET_NAMES: readonly string[] = Object.keys(SYNTHETIC_SETS);
const KNOWN = [...POINT_SET_NAMES, ...IMAGE_SET_NAMES];

/**
 * Tells points from images, by what a user names. Names of sets come first, as in the loaders. Text and NumPy files are points.
 * A parquet file and a data set of the Hub, whose first file is downloaded for that, are images if they have a column of images.
 * Every other file or folder is images.
 *
 * @param part of a data set of the Hub: what is read of it.
 * @throws {InvalidArgumentError} when there is neither such a set nor such a file; names the nearest set.
 * @throws {HubError} when the Hub refuses, or cannot be reached and the set is not cached.
 */
export async function dataSetKind(source: string, part: HubPart = {}): Promise<'points' | 'images'> {
  if (KNOWN.includes(source)) return isSyntheticName(source) ? 'points' : 'images';
  if (isPointFile(source)) return 'points';
  const isThere = await exists(source);
  if (isThere && source.endsWith('.parquet')) return kindOfTable(source);
  if (isThere) return 'images';
  if (HUB_ID.test(source)) {
    // The loader will say what it chooses.
    const { files } = await hubFiles(
      source,
      hubChoice(part, () => undefined),
    );
    return kindOfTable((await files[0]?.()) ?? source);
  }
  const near = nearestName(source, KNOWN);
  throw new InvalidArgumentError(
    `data set '${source}' is unknown: use ${KNOWN.join(', ')}, a file or folder, of which there is none at this path, or owner/name of a data set of the Hub.${near === undefined ? '' : ` Did you mean '${near}'?`}`,
  );
}

async function kindOfTable(file: string): Promise<'points' | 'images'> {
  return imageColumn(await openTable(file)) === undefined ? 'points' : 'images';
}
