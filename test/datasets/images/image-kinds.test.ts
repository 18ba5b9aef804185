import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { loadImages } from '../../../src/datasets/index.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-kinds-'));
  await mkdir(path.join(folder, 'set'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** One pixel of the only image in the set, in each number of channels. */
async function pixelOf(name: string, encoded: Buffer) {
  await writeFile(path.join(folder, 'set', name), encoded);
  const pixels = [];
  for (const channels of [1, 3, 4] as const) {
    const options = { resolution: 4, channels, cache_dir: path.join(folder, 'cache') };
    const set = await loadImages(path.join(folder, 'set'), options);
    expect(set.skipped).toEqual([]);
    pixels.push([...set.pixels(0).subarray(0, channels)]);
  }
  return pixels;
}

/** 4x4 pixels of one value. */
function plain(value: readonly number[]): Sharp {
  const channels = value.length as 1 | 2 | 3 | 4;
  const pixels = Uint8Array.from({ length: 16 * channels }, (_, i) => value[i % channels] as number);
  return sharp(pixels, { raw: { width: 4, height: 4, channels } });
}

// Luma of 10, 200, 90: 0.299 * 10 + 0.587 * 200 + 0.114 * 90 = 130.65. Half opaque on white: (x + 255) / 2.
it.each<[string, string, () => Sharp, number[][]]>([
  ['RGB', 'a.png', () => plain([10, 200, 90]).png(), [[131], [10, 200, 90], [10, 200, 90, 255]]],
  ['RGBA', 'a.png', () => plain([10, 200, 90, 0]).png(), [[255], [255, 255, 255], [10, 200, 90, 0]]],
  [
    'half transparent RGBA',
    'a.webp',
    () => plain([0, 200, 100, 128]).webp({ lossless: true }),
    [[191], [127, 227, 177], [0, 200, 100, 128]],
  ],
  ['grey', 'a.png', () => plain([77]).toColourspace('b-w').png(), [[77], [77, 77, 77], [77, 77, 77, 255]]],
  [
    'grey with transparency',
    'a.png',
    () => plain([80, 0]).toColourspace('b-w').png(),
    [[255], [255, 255, 255], [80, 80, 80, 0]],
  ],
  ['16 bits', 'a.png', () => plain([77]).toColourspace('grey16').png(), [[77], [77, 77, 77], [77, 77, 77, 255]]],
  ['a palette', 'a.png', () => plain([10, 200, 90]).png({ palette: true }), [[131], [10, 200, 90], [10, 200, 90, 255]]],
  ['a GIF', 'a.gif', () => plain([10, 200, 90]).gif(), [[131], [10, 200, 90], [10, 200, 90, 255]]],
  [
    'a TIFF',
    'a.tiff',
    () => plain([10, 200, 90]).tiff({ compression: 'lzw' }),
    [[131], [10, 200, 90], [10, 200, 90, 255]],
  ],
])('%s', async (_kind, name, image, expected) => {
  const pixels = await pixelOf(name, await image().toBuffer());
  // Colours go through the palette or premultiplied transparency: a step of rounding either way.
  pixels.forEach((pixel, i) => {
    expect(pixel).toHaveLength(expected[i]?.length ?? 0);
    pixel.forEach((value, c) => {
      expect(Math.abs(value - (expected[i]?.[c] as number)), `${pixel} for ${expected[i]}`).toBeLessThanOrEqual(2);
    });
  });
});

it('a wide gamut is converted to sRGB', async () => {
  const encoded = await plain([220, 40, 30]).withIccProfile('p3').png().toBuffer();
  const [, rgb] = await pixelOf('a.png', encoded);
  // Display P3 holds 202, 59, 44 for this red.
  const stored = await sharp(encoded, { ignoreIcc: true }).raw().toBuffer();
  expect([...stored.subarray(0, 3)]).toEqual([202, 59, 44]);
  [220, 40, 30].forEach((value, c) => {
    expect(Math.abs((rgb?.[c] ?? 0) - value)).toBeLessThanOrEqual(1);
  });
});

it('CMYK, as of printed JPEGs', async () => {
  const encoded = await plain([200, 30, 30]).toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer();
  expect((await sharp(encoded).metadata()).space).toBe('cmyk');
  const [, rgb] = await pixelOf('a.jpg', encoded);
  // Out to ink and back by the profiles of libvips: red stays red.
  expect(rgb?.[0]).toBeGreaterThan(150);
  expect(rgb?.[1]).toBeLessThan(90);
  expect(rgb?.[2]).toBeLessThan(90);
});
