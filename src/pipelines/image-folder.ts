import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { isFile } from '../files/regular-file.ts';
import { claimFolder, type GenerationRecord } from './generation-record.ts';
import { encodePng, type ImageBytes } from './image-bytes.ts';
import type { ImageGenerationOptions } from './image-options.ts';

export interface ImageFolderOptions extends Omit<ImageGenerationOptions, 'batch_size'> {
  /** Images the folder shall have in the end, 1 to 2^24. */
  readonly count: number;
  /** Images that go through the model and are written at a time, 1 or more; default 16. */
  readonly batch_size?: number | undefined;
}

/** Draws images `first` .. `first + count - 1` of a run. */
export type DrawImages = (
  first: number,
  count: number,
  onProgress: (fraction: number) => void,
) => Promise<ImageBytes>;

/**
 * Writes the images `000000.png`, `000001.png`, ... that the folder does not have yet. An image appears whole or
 * not at all and depends on the seed and its number alone, so that a call that was stopped can be repeated.
 *
 * @returns the paths of all images.
 * @throws {InvalidArgumentError} when the folder is a file, or holds images of other settings.
 */
export async function generateIntoFolder(
  folder: string,
  { count, batch_size = 16, on_progress, signal }: ImageFolderOptions,
  record: GenerationRecord,
  draw: DrawImages,
): Promise<string[]> {
  if (await isFile(folder)) throw new InvalidArgumentError(`${folder} is a file, but images need a folder`);
  await mkdir(folder, { recursive: true });
  await claimFolder(folder, record, (name) => /^\d{6,}\.png$/.test(name));
  const files = Array.from({ length: count }, (_, i) =>
    path.join(folder, `${String(i).padStart(6, '0')}.png`),
  );
  for (let first = 0; first < count; first += batch_size) {
    signal?.throwIfAborted();
    on_progress?.(first / count);
    const group = files.slice(first, first + batch_size);
    const present = await Promise.all(group.map(isFile));
    if (present.every(Boolean)) continue;
    const images = await draw(first, group.length, (fraction) =>
      on_progress?.((first + fraction * group.length) / count),
    );
    await writeImages(group, images);
  }
  on_progress?.(1);
  return files;
}

async function writeImages(files: readonly string[], images: ImageBytes): Promise<void> {
  const size = images.height * images.width * images.channels;
  for (const [i, file] of files.entries()) {
    const pixels = images.data.subarray(i * size, (i + 1) * size);
    await writeFileAtomic(file, await encodePng(pixels, images));
  }
}
