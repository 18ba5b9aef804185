import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type LoadImagesOptions, loadImages } from '../../src/datasets/index.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-cases-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const given = (name: string) => fileURLToPath(new URL(`files/${name}`, import.meta.url));
const load = (source: string, options: LoadImagesOptions = {}) =>
  loadImages(source, { cache_dir: path.join(folder, 'cache'), ...options });
const filters = ['bilinear', 'bicubic', 'lanczos'] as const;

describe('resizing', () => {
  it('enlarges without moving: the result of a mirrored image is the mirrored result', async () => {
    const [a, b] = await Promise.all(
      ['a', 'b'].map((name) => load(given(`enlarge-mirror/${name}`), { resolution: 16, channels: 1 })),
    );
    const row = [0, 9, 27, 45, 63, 81, 99, 117, 135, 153, 171, 189, 207, 225, 243, 252];
    expect([...(a?.pixels(0).subarray(0, 16) ?? [])]).toEqual(row);
    expect([...(b?.pixels(0).subarray(0, 16) ?? [])]).toEqual(row.toReversed());
  });

  it('gives the bytes of Pillow: enlarged, shrunk, mixed, of one pixel, transparent', async () => {
    const { stretched } = await pilValues();
    for (const { size, channels, to, pixels, ...expected } of stretched)
      for (const interpolation of filters) {
        const source = await folderOf(pixels, size, channels);
        const set = await load(source, { resolution: to, channels, center_crop: false, interpolation });
        expect([...set.pixels(0)], `${size} to ${to}, ${channels} channels, ${interpolation}`).toEqual(
          expected[interpolation],
        );
      }
  });

  it('gives the bytes of torchvision when the centre is cropped', async () => {
    const { cropped } = await pilValues();
    for (const { size, side, pixels, ...expected } of cropped)
      for (const interpolation of filters) {
        const source = await folderOf(pixels, size, 1);
        const set = await load(source, { resolution: side, channels: 1, interpolation });
        expect([...set.pixels(0)], `${size} to ${side}, ${interpolation}`).toEqual(expected[interpolation]);
      }
  });

  it('crops at the even one of two middles (red is ten times the column), also where training crops at random', async () => {
    await mkdir(path.join(folder, 'odd-1'));
    await sharp(given('crop-odd-1.png')).toFile(path.join(folder, 'odd-1/a.png'));
    for (const random_crop of [false, true])
      for (const [source, first] of [
        [given('crop-odd'), 20],
        [path.join(folder, 'odd-1'), 0],
      ] as const) {
        const set = await load(source, { resolution: 8, channels: 3, random_crop });
        expect(set.pixels(0)[0]).toBe(first);
      }
  });
});

interface PilValues extends Record<(typeof filters)[number], number[]> {
  size: [number, number];
  pixels: number[];
}

async function pilValues(): Promise<{
  stretched: (PilValues & { channels: 1 | 3 | 4; to: [number, number] })[];
  cropped: (PilValues & { side: number })[];
}> {
  return JSON.parse(await readFile(new URL('../fixtures/images/pil-resize.json', import.meta.url), 'utf8'));
}

let folders = 0;
/** A folder with one PNG. */
async function folderOf(pixels: number[], [height, width]: [number, number], channels: 1 | 3 | 4): Promise<string> {
  const source = path.join(folder, `set-${folders++}`);
  await mkdir(source);
  const image = sharp(Uint8Array.from(pixels), { raw: { height, width, channels } });
  await image.png().toFile(path.join(source, 'a.png'));
  return source;
}
