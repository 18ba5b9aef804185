import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DatasetError, errorText } from '../../../errors.ts';
import { readWholeFile } from '../../../files/regular-file.ts';
import { folderLabel, type ImageSource, isImageName, MAX_ENCODED_BYTES, type SourceImage } from './image-source.ts';

const MAX_FILES = 20_000_000;

interface ImageFile {
  /** Path below the folder, with '/'. */
  readonly path: string;
  readonly bytes: number;
  readonly modified: number;
}

/**
 * Every image file in a folder and below, in the order of their paths; each is labelled with the name of the
 * sub-folder it is in. Links to folders are not followed, hidden files are left out.
 *
 * @throws {DatasetError} when the folder cannot be read or has no image.
 */
export async function folderSource(folder: string): Promise<ImageSource> {
  const files = await imageFiles(folder);
  if (files.length === 0)
    throw new DatasetError(`${folder} has no .png, .jpg, .webp, .gif, .tiff or .avif file, nor do its sub-folders`);
  return {
    name: folder,
    total: files.length,
    cacheKey: JSON.stringify([folder, files.map(({ path, bytes, modified }) => [path, bytes, modified])]),
    images: () => readImages(folder, files),
  };
}

async function imageFiles(folder: string): Promise<ImageFile[]> {
  const files: ImageFile[] = [];
  const open = [''];
  for (let below = open.pop(); below !== undefined; below = open.pop()) {
    const entries = await readdir(join(folder, below), { withFileTypes: true }).catch((cause: Error) => {
      throw new DatasetError(`the folder ${join(folder, below)} cannot be read: ${cause.message}`, { cause });
    });
    for (const entry of entries) {
      const path = below === '' ? entry.name : `${below}/${entry.name}`;
      if (entry.isDirectory()) {
        if (!entry.name.startsWith('.')) open.push(path);
      } else if (isImageName(entry.name)) {
        const status = await stat(join(folder, path)).catch(() => undefined);
        files.push({ path, bytes: status?.size ?? 0, modified: status?.mtimeMs ?? 0 });
        if (files.length > MAX_FILES)
          throw new DatasetError(`${folder} has more than ${MAX_FILES} images: use a part of them`);
      }
    }
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function* readImages(folder: string, files: readonly ImageFile[]): AsyncGenerator<SourceImage> {
  for (const { path } of files) {
    try {
      const encoded = await readWholeFile(join(folder, path), MAX_ENCODED_BYTES, DatasetError);
      yield { source: path, label: folderLabel(path), encoded };
    } catch (error) {
      yield { source: path, reason: errorText(error) };
    }
  }
}
