import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { DatasetError, errorText } from '../../../errors.ts';
import { readHead } from '../../../files/regular-file.ts';
import { hasNoEnding, imageFormatOf, isImageName } from '../formats/image-formats.ts';
import { cifarArchiveSource, cifarFilesSource, isCifarArchive, isCifarBatch } from './cifar.ts';
import { idxSource, isIdxImages } from './idx.ts';
import { type FolderFile, imageFolderSource } from './image-folder.ts';
import { type ImageSource, isHiddenFolder, type SourceChoice } from './image-source.ts';
import { localParquet, parquetSource } from './parquet.ts';
import { chosenSplit, splitsByFile } from './splits.ts';
import { isTarName, tarSource } from './tar.ts';

const MAX_FILES = 20_000_000;

/**
 * The images of a folder: those of CIFAR's batches, parquet files, MNIST's IDX files or webdataset's shards that lie in it
 * or below, else its image files.
 *
 * @throws {DatasetError} when the folder cannot be read, has no images, or has several sets; it names the files.
 */
export async function folderSource(folder: string, choice: SourceChoice): Promise<ImageSource> {
  const files = await filesBelow(folder);
  const pathsOf = (isKind: (path: string) => boolean) => files.map(({ path }) => path).filter(isKind);
  const at = (paths: readonly string[]) => paths.map((path) => join(folder, path));
  const images = files.filter(({ isImage }) => isImage);
  const leaveOutImages = (what: string) => {
    if (images.length > 0)
      choice.warn(`${folder}: its ${what} are read, not the ${images.length} image files beside them`);
  };

  const batches = pathsOf((path) => isCifarBatch(`${basename(folder)}/${path}`));
  if (batches.length > 0) {
    leaveOutImages('batches of CIFAR');
    requireOneFolder(folder, batches);
    return cifarFilesSource(folder, at(batches), choice);
  }
  const parquet = pathsOf((path) => path.endsWith('.parquet') && basename(path) !== 'metadata.parquet');
  if (parquet.length > 0) {
    leaveOutImages('parquet files');
    const splitOf = splitsByFile(parquet, choice);
    const chosen = chosenSplit(folder, parquet, splitOf, choice);
    // `train/0.parquet` and `val/0.parquet` are one set; `a/train/0.parquet` and `b/train/0.parquet` are two.
    requireOneFolder(folder, chosen);
    return parquetSource(await localParquet(folder, at(chosen)), choice);
  }
  const idx = pathsOf(isIdxImages);
  if (idx.length > 0) {
    leaveOutImages('IDX files');
    return idxFolderSource(folder, idx, choice);
  }
  if (images.length > 0) return imageFolderSource(folder, files, choice);
  const archives = pathsOf(isTarName);
  const [cifar, ...others] = archives.filter(isCifarArchive);
  if (cifar !== undefined && others.length > 0)
    throw new DatasetError(`${folder} has several sets, ${listed([cifar, ...others])}: give one of them`);
  if (cifar !== undefined) return cifarArchiveSource(join(folder, cifar), choice);
  const splitOf = splitsByFile(archives, choice);
  if (archives.some((path) => splitOf(path) !== undefined))
    return tarSource(folder, at(chosenSplit(folder, archives, splitOf, choice)), { ...choice, split: 'all' });
  if (archives.length > 0) return tarSource(folder, at(archives), choice);
  throw new DatasetError(noImages(folder, files));
}

/** Both the packed and the unpacked file of a set may be there, and those of several sets. */
function idxFolderSource(folder: string, paths: readonly string[], choice: SourceChoice): Promise<ImageSource> {
  const unique = paths.filter((path) => !(path.endsWith('.gz') && paths.includes(path.slice(0, -'.gz'.length))));
  const chosen = chosenSplit(folder, unique, splitsByFile(unique, choice), choice);
  if (chosen.length > 1)
    throw new DatasetError(`${folder} has several sets, ${listed(chosen)}: give the file of one of them`);
  return idxSource(join(folder, chosen[0] ?? ''), choice);
}

/** @throws {DatasetError} when data files lie in several folders: those are several sets, or copies of one. */
function requireOneFolder(folder: string, paths: readonly string[]): void {
  const folders = [...new Set(paths.map((path) => dirname(path)))];
  if (folders.length > 1)
    throw new DatasetError(`${folder} has several sets, in ${listed(folders)}: give the folder of one of them`);
}

function noImages(folder: string, files: readonly FolderFile[]): string {
  const readable = `images, parquet, tar, IDX or CIFAR files, also in its sub-folders`;
  if (files.length === 0) return `${folder} has no file: give a folder with ${readable}`;
  const advice = files.some(({ path }) => /\.(zip|rar|7z)$/i.test(path)) ? '. Unpack the archive' : '';
  return `${folder} has none of ${readable}; it has ${listed(files.map(({ path }) => path))}${advice}`;
}

function listed(names: readonly string[]): string {
  return names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');
}

interface OpenFolder {
  /** Path below the root, '' for itself. */
  readonly below: string;
  /** Where this folder and those above it really are. */
  readonly chain: readonly string[];
}

/**
 * Every file in a folder and below, in the order of paths. Links are followed; hidden files, hidden folders and
 * `__MACOSX` are left out.
 *
 * @throws {DatasetError} for a folder that cannot be read, and a link that leads to a folder that it lies in.
 */
async function filesBelow(root: string): Promise<FolderFile[]> {
  const files: FolderFile[] = [];
  const fail = (path: string) => (cause: unknown) => {
    throw new DatasetError(`the folder ${path} cannot be read: ${errorText(cause)}`, { cause });
  };
  const open: OpenFolder[] = [{ below: '', chain: [await realpath(root).catch(fail(root))] }];
  for (let folder = open.pop(); folder !== undefined; folder = open.pop()) {
    const { below, chain } = folder;
    const full = join(root, below);
    for (const entry of await readdir(full, { withFileTypes: true }).catch(fail(full))) {
      const path = below === '' ? entry.name : `${below}/${entry.name}`;
      const target = entry.isSymbolicLink() ? await stat(join(root, path)).catch(() => undefined) : entry;
      if (entry.name.startsWith('.')) continue;
      if (target === undefined) files.push({ path, isImage: isImageName(path), reason: 'a link that leads nowhere' });
      else if (!target.isDirectory()) files.push({ path, isImage: await isImageFile(root, path) });
      else if (!isHiddenFolder(entry.name)) {
        const real = await realpath(join(root, path)).catch(fail(path));
        if (chain.some((above) => above === real || above.startsWith(real === sep ? sep : real + sep)))
          throw new DatasetError(
            `the link ${join(root, path)} leads to ${real}, a folder that it lies in: reading it would not end. Remove the link`,
          );
        open.push({ below: path, chain: [...chain, real] });
      }
      if (files.length > MAX_FILES)
        throw new DatasetError(`${root} has more than ${MAX_FILES} files: use a part of them`);
    }
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Whether a file is named as an image, or begins as one where its name has no ending. */
async function isImageFile(root: string, path: string): Promise<boolean> {
  if (!hasNoEnding(path)) return isImageName(path);
  try {
    imageFormatOf(await readHead(join(root, path), DatasetError));
    return true;
  } catch {
    return false;
  }
}
