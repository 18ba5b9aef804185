import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { writeFileAtomic } from '../hub/atomic-file.ts';
import type { ImageBytes } from './image-bytes.ts';
import type { ImageGenerationOptions } from './unconditional-image-generation.ts';

export interface ImageFolderOptions extends Omit<ImageGenerationOptions, 'batch_size'> {
  /** Pictures the folder shall have in the end. */
  readonly count: number;
  /** Pictures drawn and written at a time; default 16. */
  readonly batch_size?: number;
}

/**
 * Writes the pictures `000000.png`, `000001.png`, ... that the folder does not have yet. A picture appears whole or
 * not at all and depends on the seed and its number alone, so that a call that was stopped can be repeated.
 *
 * @returns the paths of all pictures.
 */
export async function generateIntoFolder(
  folder: string,
  { count, batch_size = 16, on_progress, signal }: ImageFolderOptions,
  draw: (first: number, count: number) => Promise<ImageBytes>,
): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const files = Array.from({ length: count }, (_, i) =>
    path.join(folder, `${String(i).padStart(6, '0')}.png`),
  );
  for (let first = 0; first < count; first += batch_size) {
    signal?.throwIfAborted();
    on_progress?.(first / count);
    const group = files.slice(first, first + batch_size);
    const present = await Promise.all(group.map(isFile));
    if (!present.every(Boolean)) await writePictures(group, await draw(first, group.length));
  }
  on_progress?.(1);
  return files;
}

async function writePictures(files: readonly string[], images: ImageBytes): Promise<void> {
  const { height, width, channels } = images;
  const size = height * width * channels;
  for (const [i, file] of files.entries()) {
    const pixels = images.data.subarray(i * size, (i + 1) * size);
    const png = await sharp(pixels, { raw: { height, width, channels } })
      .toColourspace(channels === 1 ? 'b-w' : 'srgb')
      .png()
      .toBuffer();
    await writeFileAtomic(file, png);
  }
}

async function isFile(file: string): Promise<boolean> {
  return (await stat(file).catch(() => undefined))?.isFile() ?? false;
}
