import { resolve } from 'node:path';
import { InvalidArgumentError } from '../../errors.ts';
import { exists, isFile, isFolder } from '../../files/regular-file.ts';
import { HUB_ID } from '../../hub/hub-options.ts';
import { IMAGE_SET_NAMES } from '../named-data-set.ts';
import { cifarArchiveSource, cifarFilesSource, isCifarArchive, isCifarBatch } from './sources/cifar.ts';
import { digitsSource } from './sources/digits.ts';
import { folderSource } from './sources/folder.ts';
import { type HubChoice, hubSource } from './sources/hub.ts';
import { idxSource, isIdxImages } from './sources/idx.ts';
import type { ImageSource, SourceChoice } from './sources/image-source.ts';
import { npmSet, npmSource } from './sources/npm.ts';
import { oxfordSet, oxfordSource } from './sources/oxford.ts';
import { localParquet, parquetSource } from './sources/parquet.ts';
import { requireSplit } from './sources/splits.ts';
import { isTarName, tarSource } from './sources/tar.ts';

/** Finds out what `source` (see `loadImages`) is, and opens it. */
export async function openSource(
  source: string,
  places: SourceChoice & { readonly cacheDir: string; readonly dataDir: string | undefined; readonly hub: HubChoice },
): Promise<ImageSource> {
  const path = resolve(source);
  if (HUB_ID.test(source) && !(await exists(path))) return hubSource(source, places);
  const { config, revision } = places.hub;
  const [unused] = Object.entries({ dataset_config_name: config, revision }).filter(([, value]) => value !== undefined);
  if (unused)
    throw new InvalidArgumentError(`${unused[0]} is '${unused[1]}', but '${source}' is not a data set of the Hub`);
  if (source === 'digits') return digitsSource(places);
  const npm = npmSet(source);
  if (npm) return npmSource(npm, places);
  const oxford = oxfordSet(source);
  if (oxford) return oxfordSource(oxford, places);

  if (await isFolder(path)) return folderSource(path, places);
  if (await isFile(path)) {
    if (isCifarArchive(path)) return cifarArchiveSource(path, places);
    if (isTarName(path)) return tarSource(path, [path], places);
    if (path.endsWith('.parquet') || isIdxImages(path) || isCifarBatch(path)) requireSplit(path, places);
    if (path.endsWith('.parquet')) return parquetSource(await localParquet(path, [path]), places);
    if (isIdxImages(path)) return idxSource(path, places);
    if (path.endsWith('.bin') || isCifarBatch(path)) return cifarFilesSource(path, [path], places);
  }
  throw new InvalidArgumentError(
    `'${source}' ${(await exists(path)) ? 'is not a kind of image set that is read' : 'does not exist'}: give ${IMAGE_SET_NAMES.map((name) => `'${name}'`).join(', ')}, ` +
      'a folder of images, a .tar, .tar.gz, .tgz or .parquet file, an IDX file (train-images-idx3-ubyte), a file of CIFAR, or owner/name of a data set of the Hub',
  );
}
