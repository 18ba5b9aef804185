// Points that somebody stored: in a file, or on the Hub.
import { join } from '#platform/path';
import { InvalidArgumentError } from '../../errors.ts';
import { exists } from '../../files/regular-file.ts';
import { HUB_ID } from '../../hub/hub-options.ts';
import { hubFiles } from '../images/sources/hub.ts';
import { localParquet } from '../images/sources/parquet.ts';
import { readParquetPoints } from './parquet-points.ts';
import { isPointFile, POINT_FILES, readPoints } from './point-files.ts';
import type { PointSet, RawPoints } from './points.ts';
import { SYNTHETIC_SETS } from './synthetic.ts';

/** What is read of a data set of the Hub, named as the options of the loaders. */
export interface HubPart {
  readonly split?: string | undefined;
  readonly dataset_config_name?: string | undefined;
  readonly revision?: string | undefined;
  readonly token?: string | undefined;
  readonly local_files_only?: boolean | undefined;
  readonly cache_dir?: string | undefined;
}

/** Options of `loadPoints`, and where it warns. */
export interface StoredChoice extends HubPart {
  readonly columns?: readonly string[] | undefined;
  /** The points that are wanted; undefined: all. */
  readonly n: number | undefined;
  readonly noise?: number | undefined;
  readonly warn: (message: string) => void;
}

/**
 * Reads the points of a file or of a data set of the Hub.
 *
 * @throws {InvalidArgumentError} when the source is neither, or has no use for an option.
 * @throws {DatasetError} when it cannot be read. @throws {HubError} when the Hub refuses or cannot be reached.
 */
export async function readStored(source: string, choice: StoredChoice): Promise<RawPoints & Pick<PointSet, 'hubId'>> {
  const isText = isPointFile(source);
  const isParquet = source.endsWith('.parquet') && (await exists(source));
  if (!isText && !isParquet && !HUB_ID.test(source))
    throw new InvalidArgumentError(
      `data set '${source}' is unknown: use ${Object.keys(SYNTHETIC_SETS).join(', ')}, the path of a ${POINT_FILES} file, of a .parquet file, or owner/name of a data set of the Hub`,
    );
  if (choice.noise !== undefined)
    throw new InvalidArgumentError(
      `noise is ${choice.noise}, but '${source}' is stored: its points are used as they are`,
    );
  if (isText) return readPoints(source);
  const unused = (['split', 'dataset_config_name', 'revision'] as const).find((name) => choice[name] !== undefined);
  if (isParquet && unused !== undefined)
    throw new InvalidArgumentError(`${unused} is '${choice[unused]}', but '${source}' is a file: leave it out`);
  const files = isParquet
    ? await localParquet(source, [source])
    : await hubFiles(source, hubChoice(choice, choice.warn));
  const { columns, n, warn } = choice;
  const points = await readParquetPoints(files, { columns, n, warn });
  return isParquet ? points : { ...points, hubId: source };
}

/** Where and how a data set of the Hub is read. */
export function hubChoice(part: HubPart, warn: (message: string) => void) {
  const { split, dataset_config_name: config, revision, token, local_files_only, cache_dir } = part;
  const folder = cache_dir && join(cache_dir, 'hub');
  return { split, warn, hub: { config, revision, token, local_files_only, cache_dir: folder } };
}
