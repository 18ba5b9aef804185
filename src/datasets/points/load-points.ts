import { readStored } from '#datasets/points/stored-points';
import { warn as warnUser } from '#platform/system';
import { requireText } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { type Fields, functionOption, parseOptions } from '../../options.ts';
import * as z from '../../zod.ts';
import { isPointFile } from './point-files.ts';
import { type PointSet, pointsFromArray, type RawPoints, SCALINGS } from './points.ts';
import { isSyntheticName, syntheticPoints } from './synthetic.ts';

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
  /**
   * Of a parquet file or a data set of the Hub: the names of the columns to read, at least one. Default `x` and `y`, else the
   * first two that hold numbers, with a warning where there are more.
   */
  readonly columns?: readonly string[] | undefined;
  /** Of a data set of the Hub: the split, as for `loadImages`. Default 'train', with a warning that names the others. */
  readonly split?: string | undefined;
  /** Of a data set of the Hub: the configuration, as for `loadImages`. Default: its only or default one. */
  readonly dataset_config_name?: string | undefined;
  /** Of a data set of the Hub: a branch, tag or commit; default 'main'. */
  readonly revision?: string | undefined;
  /** For the Hub: an access token, for private and gated data sets; default the environment's HF_TOKEN, or none. */
  readonly token?: string | undefined;
  /** Whether to use what was downloaded from the Hub before, without asking it; default false. */
  readonly local_files_only?: boolean | undefined;
  /** Folder of downloads; default `$XDG_CACHE_HOME/iso-diffusion` or `~/.cache/iso-diffusion`. */
  readonly cache_dir?: string | undefined;
  /** Called with one line about what was chosen without being asked. Default `process.emitWarning`. */
  readonly on_warning?: ((message: string) => void) | undefined;
}

const optionsSchema = z.strictObject({
  n: z._default(z.int().check(z.gte(1), z.lte(100_000_000)), 10_000),
  noise: z.optional(z.number().check(z.gte(0), z.refine(Number.isFinite, 'must be finite'))),
  seed: z._default(z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER)), 0),
  scaling: z._default(z.enum(SCALINGS), 'min-max'),
  columns: z.optional(z.array(z.string().check(z.minLength(1))).check(z.minLength(1))),
  split: z.optional(z.string().check(z.minLength(1))),
  dataset_config_name: z.optional(z.string().check(z.minLength(1))),
  revision: z.optional(z.string().check(z.minLength(1))),
  token: z.optional(z.string()),
  local_files_only: z.optional(z.boolean()),
  cache_dir: z.optional(z.string().check(z.minLength(1))),
  on_warning: z.optional(functionOption<(message: string) => void>()),
} satisfies Fields<LoadPointsOptions>);

/**
 * A set of points to train on.
 *
 * @param source 'swiss-roll', 'moons', 's-curve', '8-gaussians', or the path of a .csv, .tsv, .txt, .npy or .parquet file of
 * numbers, one point a row; or `owner/name`, where there is no such file: the parquet files of a data set of the Hugging Face
 * Hub. Columns of text may be separated by commas, semicolons, tabs or blanks, and named in the first line.
 * @throws {InvalidArgumentError} when the source is unknown or an option is wrong.
 * @throws {DatasetError} when a file cannot be read or holds anything but finite numbers.
 * @throws {HubError} when the Hub refuses, or cannot be reached and the set is not cached.
 * @example
 * const points = await loadPoints('moons', { n: 2000, seed: 1 });
 */
export async function loadPoints(source: string, options: LoadPointsOptions = {}): Promise<PointSet> {
  requireText('the data set', source);
  const checked = parseOptions(optionsSchema, options, `options for the data set '${source}'`);
  if (isSyntheticName(source) || isPointFile(source)) refuseOfTables(source, checked);
  const { n, noise, seed, scaling, on_warning: warn = warnUser } = checked;
  if (isSyntheticName(source))
    return pointsFromArray(syntheticPoints(source, { count: n, noise, seed }), 2, { name: source, scaling });
  const { hubId, ...stored } = await readStored(source, { ...checked, n: options.n, warn });
  const { data, dims, columns } = firstPoints(stored, options.n);
  const points = pointsFromArray(data, dims, { name: source, scaling, columns });
  return hubId === undefined ? points : { ...points, hubId };
}

/** @throws {InvalidArgumentError} for an option of parquet files and the Hub. */
function refuseOfTables(source: string, checked: z.output<typeof optionsSchema>): void {
  const names = ['columns', 'split', 'dataset_config_name', 'revision'] as const;
  const unused = names.find((name) => checked[name] !== undefined);
  if (unused === undefined) return;
  throw new InvalidArgumentError(
    `${unused} is ${JSON.stringify(checked[unused])}, but '${source}' is neither a parquet file nor a data set of the Hub: leave it out`,
  );
}

function firstPoints(points: RawPoints, n: number | undefined): RawPoints {
  return n === undefined ? points : { ...points, data: points.data.subarray(0, n * points.dims) };
}
