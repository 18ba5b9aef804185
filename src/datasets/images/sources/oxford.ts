import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DatasetError, DownloadError } from '../../../errors.ts';
import { download } from '../../../files/download.ts';
import { fileDigest, isFile } from '../../../files/regular-file.ts';
import { folderSource } from './folder.ts';
import { type ImageSource, labelColumnOf, type SourceChoice } from './image-source.ts';
import { chosenSplit } from './splits.ts';
import { archiveSource } from './tar.ts';

export interface OxfordSet {
  readonly name: string;
  /** torchvision's and the Hub's short name for it. */
  readonly shortName: string;
  readonly url: string;
  readonly archive: string;
  /** Published checksum, as torchvision checks it too. */
  readonly md5: string;
  readonly label: (member: string) => string | undefined;
}

/**
 * The Visual Geometry Group's sets. Flowers' classes are in a MATLAB file of its own, which is not read; the Hub's
 * parquet files have them.
 */
export const OXFORD_SETS: readonly OxfordSet[] = [
  {
    name: 'oxford-flowers-102',
    shortName: 'flowers102',
    url: 'https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz',
    archive: '102flowers.tgz',
    md5: '52808999861908f626f3c1f4e79d11fa',
    label: () => undefined,
  },
  {
    name: 'oxford-iiit-pet',
    shortName: 'pets',
    url: 'https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz',
    archive: 'images.tar.gz',
    md5: '5c4f3ee8e5d25df40f4fd59a7f44e54c',
    label: petBreed,
  },
];

/** The set of a name, short or long. */
export function oxfordSet(name: string): OxfordSet | undefined {
  return OXFORD_SETS.find((set) => set.name === name || set.shortName === name);
}

/**
 * One of the Oxford sets: its archive, or the Hub's parquet files of all splits, from `dataDir`; or the archive, downloaded once into
 * `<cacheDir>/downloads/<name>/`.
 *
 * @throws {DownloadError} when it cannot be downloaded.
 * @throws {DatasetError} when `dataDir` has neither, or the archive is not the published one.
 */
export async function oxfordSource(
  set: OxfordSet,
  places: SourceChoice & { readonly cacheDir: string; readonly dataDir: string | undefined },
): Promise<ImageSource> {
  if (places.dataDir === undefined) {
    const path = join(places.cacheDir, 'downloads', set.name, set.archive);
    if (!(await isFile(path))) await fetchArchive(set, path);
    return fromArchive(set, path, places);
  }
  const path = resolve(places.dataDir, set.archive);
  if (!(await isFile(path))) {
    const names = await readdir(places.dataDir, { recursive: true }).catch(() => []);
    // The archive is the whole set, so the Hub's files are too, unless a split is asked for.
    if (names.some((name) => name.endsWith('.parquet')))
      return { ...(await folderSource(places.dataDir, { ...places, split: places.split ?? 'all' })), name: set.name };
    throw new DatasetError(
      `${path} does not exist: fetch ${set.url} and put it there, or put the set's .parquet files from the Hub there`,
    );
  }
  await requireChecksum(path, set);
  return fromArchive(set, path, places);
}

/** The archives have neither splits nor columns. */
async function fromArchive(set: OxfordSet, path: string, choice: SourceChoice): Promise<ImageSource> {
  chosenSplit(set.name, [path], () => undefined, choice);
  labelColumnOf([], choice, set.name);
  return withoutMatlabFiles(await archiveSource(set.name, path, set.label));
}

/** Between the photos are a few of MATLAB's files, which their authors left there. They are no part of the set. */
function withoutMatlabFiles(source: ImageSource): ImageSource {
  return {
    ...source,
    async *images() {
      for await (const image of source.images()) if (!image.source.endsWith('.mat')) yield image;
    },
  };
}

/** @throws {DownloadError} when the server cannot be reached, refuses, or sends something else. */
export async function fetchArchive({ url, md5 }: Pick<OxfordSet, 'url' | 'md5'>, path: string): Promise<void> {
  await download({ url, digest: { kind: 'md5', hex: md5 } }, path, {
    fail: (message, options) =>
      new DownloadError(
        `${message}. Or fetch ${url} by other means and put it at ${path}, or into a folder that you give as data_dir.`,
        options,
      ),
  });
}

/** @throws {DatasetError} when the file at `path` is not the published one. */
async function requireChecksum(path: string, { url, md5 }: OxfordSet): Promise<void> {
  const found = await fileDigest([path], { algorithm: 'md5' });
  if (found !== md5)
    throw new DatasetError(`${path} is not the published file (MD5 ${found}, not ${md5}): fetch ${url} again`);
}

/** `images/great_pyrenees_12.jpg` is an image of the breed `great_pyrenees`. */
function petBreed(member: string): string | undefined {
  return /([^/]+)_\d+\.jpg$/i.exec(member)?.[1];
}
