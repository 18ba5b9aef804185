import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { npyBytes, parseNpyArray } from '../../src/files/npy.ts';
import { writeImageGrid } from '../../src/plots/index.ts';

/** Of the digits. */
const SIDE = 8;

/** Grey images of 8x8 as numbers: the kit has nothing that writes a picture. @param data [count, 8, 8, 1], 0 to 255. */
export async function savePictures(file: string, data: Uint8Array): Promise<void> {
  await writeFileAtomic(file, npyBytes(Float32Array.from(data), [data.length / SIDE ** 2, SIDE ** 2]));
}

/** Draws every `pictures-*.npy` of a folder as PNG beside it. @returns their names. */
export async function drawPictures(folder: string): Promise<string[]> {
  const drawn: string[] = [];
  for (const name of await readdir(folder)) {
    if (!/^pictures-.*\.npy$/.test(name)) continue;
    const file = path.join(folder, name);
    const { data, shape } = parseNpyArray(await readFile(file), file);
    const png = file.replace(/\.npy$/, '.png');
    const images = { data: Uint8Array.from(data), count: shape[0] ?? 0, height: SIDE, width: SIDE, channels: 1 };
    await writeImageGrid(png, images, { scale: 4 });
    drawn.push(png);
  }
  return drawn;
}
