import * as z from 'zod';
import { requireText } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { type Fields, parseOptions } from '../../options.ts';
import { isPointFile, POINT_FILES, readPoints } from './point-files.ts';
import { type PointSet, pointsFromArray, type RawPoints, SCALINGS } from './points.ts';
import { isSyntheticName, SYNTHETIC_SETS, syntheticPoints } from './synthetic.ts';

/** Which points {@link loadPoints} gives, and how they are scaled. */
export interface LoadPointsOptions {
  /** Points to draw, 1 to 100,000,000; default 10,000. Of a file: its first `n`; default all. */
  readonly n?: number | undefined;
  /**
   * Standard deviation of the noise on each axis, before scaling, at least 0. Default by set: swiss-roll 0.5, moons 0.05,
   * s-curve 0.1, 8-gaussians 1. Files take none.
   */
  readonly noise?: number | undefined;
  /** Seed of the drawn points: a whole number from 0; default 0. */
  readonly seed?: number | undefined;
  /** 'min-max' scales each axis to [-1, 1] (default), 'standardise' to mean 0 and standard deviation 1; or 'none'. */
  readonly scaling?: (typeof SCALINGS)[number] | undefined;
}

const optionsSchema = z.strictObject({
  n: z.int().min(1).max(100_000_000).default(10_000),
  noise: z.number().min(0).refine(Number.isFinite, 'must be finite').optional(),
  seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  scaling: z.enum(SCALINGS).default('min-max'),
} satisfies Fields<LoadPointsOptions>);

/**
 * A set of points to train on.
 *
 * @param source 'swiss-roll', 'moons', 's-curve', '8-gaussians', or the path of a .csv, .tsv, .txt or .npy file of numbers,
 * one point a row. Columns of text may be separated by commas, semicolons, tabs or blanks, and named in the first line.
 * @throws {InvalidArgumentError} when the source is unknown or an option is wrong.
 * @throws {DatasetError} when a file cannot be read or holds anything but finite numbers.
 * @example
 * const points = await loadPoints('moons', { n: 2000, seed: 1 });
 */
export async function loadPoints(source: string, options: LoadPointsOptions = {}): Promise<PointSet> {
  requireText('the data set', source);
  const { n, noise, seed, scaling } = parseOptions(optionsSchema, options, `options for the data set '${source}'`);
  const { data, dims, columns } = isSyntheticName(source)
    ? { data: syntheticPoints(source, { count: n, noise, seed }), dims: 2, columns: undefined }
    : firstPoints(await readPointFile(source, noise), options.n);
  return pointsFromArray(data, dims, { name: source, scaling, columns });
}

async function readPointFile(source: string, noise: number | undefined): Promise<RawPoints> {
  if (!isPointFile(source))
    throw new InvalidArgumentError(
      `data set '${source}' is unknown: use ${Object.keys(SYNTHETIC_SETS).join(', ')}, or the path of a ${POINT_FILES} file`,
    );
  if (noise !== undefined)
    throw new InvalidArgumentError(`noise is ${noise}, but '${source}' is a file: its points are used as they are`);
  return readPoints(source);
}

function firstPoints(points: RawPoints, n: number | undefined): RawPoints {
  return n === undefined ? points : { ...points, data: points.data.subarray(0, n * points.dims) };
}
