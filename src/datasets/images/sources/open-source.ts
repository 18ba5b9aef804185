import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { InvalidArgumentError } from '../../../errors.ts';
import { exists, isFile, isFolder } from '../../../files/regular-file.ts';
import { cifarArchiveSource, cifarFilesSource, isCifarArchive, isCifarBatch } from './cifar.ts';
import { digitsSource } from './digits.ts';
import { folderSource } from './folder.ts';
import { idxSource, isIdxImages } from './idx.ts';
import type { ImageSource } from './image-source.ts';
import { OXFORD_SETS, oxfordSource } from './oxford.ts';
import { parquetSource } from './parquet.ts';
import { isTarName, tarSource } from './tar.ts';

/** Finds out what `source` (see `loadImages`) is, and opens it. */
export async function openSource(
  source: string,
  places: { readonly cacheDir: string; readonly dataDir: string | undefined },
): Promise<ImageSource> {
  if (source === 'digits') return digitsSource();
  const oxford = OXFORD_SETS.find(({ name }) => name === source);
  if (oxford) return oxfordSource(oxford, places);

  const path = resolve(source);
  if (await isFolder(path)) return openFolder(path);
  if (await isFile(path)) {
    if (isCifarArchive(path)) return cifarArchiveSource(path);
    if (isTarName(path)) return tarSource(path);
    if (path.endsWith('.parquet')) return parquetSource(path, [path]);
    if (isIdxImages(path)) return idxSource(path);
    if (path.endsWith('.bin')) return cifarFilesSource(path, [path]);
  }
  throw new InvalidArgumentError(
    `'${source}' ${(await exists(path)) ? 'is not a kind of image set that is read' : 'does not exist'}: give 'digits', ${OXFORD_SETS.map(({ name }) => `'${name}'`).join(', ')}, ` +
      'a folder of images, a .tar, .tar.gz, .tgz or .parquet file, an IDX file (train-images-idx3-ubyte) or CIFAR-10 .bin files',
  );
}

async function openFolder(path: string): Promise<ImageSource> {
  const names = (await readdir(path)).sort();
  const pathsOf = (chosen: string[]) => chosen.map((name) => join(path, name));
  const batches = names.filter(isCifarBatch);
  if (batches.length > 0) return cifarFilesSource(path, pathsOf(batches));
  const parquet = names.filter((name) => name.endsWith('.parquet'));
  if (parquet.length > 0) return parquetSource(path, pathsOf(parquet));
  return folderSource(path);
}
