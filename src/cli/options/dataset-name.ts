import path from 'node:path';
import { OXFORD_SETS } from '../../datasets/images/sources/oxford.ts';
import { SYNTHETIC_SETS } from '../../datasets/points/synthetic.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { exists } from '../../files/regular-file.ts';
import { nearestName } from '../../registry.ts';

/** What a data set holds, by its name or its file. */
export interface DatasetName {
  readonly kind: 'points' | 'images';
  /** As `loadPoints` and `loadImages` take it. */
  readonly source: string;
}

export const POINT_SETS = Object.keys(SYNTHETIC_SETS);
const SHORT_NAMES: Readonly<Record<string, string>> = {
  flowers102: 'oxford-flowers-102',
  pets: 'oxford-iiit-pet',
};
export const IMAGE_SETS = ['digits', ...Object.keys(SHORT_NAMES)];
const KNOWN = [...POINT_SETS, ...IMAGE_SETS, ...OXFORD_SETS.map(({ name }) => name)];

/**
 * Tells points from images. Names of sets come first, as for the loaders; then .csv and .npy files are points, and
 * every other file or folder is images.
 *
 * @throws {InvalidArgumentError} when there is no such set and no such file; names the nearest one.
 */
export async function datasetNamed(name: string): Promise<DatasetName> {
  const source = Object.hasOwn(SHORT_NAMES, name) ? (SHORT_NAMES[name] ?? name) : name;
  if (KNOWN.includes(source)) return { kind: POINT_SETS.includes(source) ? 'points' : 'images', source };
  if (['.csv', '.npy'].includes(path.extname(source).toLowerCase())) return { kind: 'points', source };
  if (await exists(source)) return { kind: 'images', source };
  const near = nearestName(source, KNOWN);
  throw new InvalidArgumentError(
    `data set '${source}' is unknown: use ${[...POINT_SETS, ...IMAGE_SETS].join(', ')}, or a file or folder; there is none at this path${near ? `. Did you mean '${near}'?` : ''}`,
  );
}
