import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type ImageSet, loadImages } from '../../../src/datasets/index.ts';
import { InvalidArgumentError } from '../../../src/errors.ts';
import { RandomStream } from '../../../src/random/random-stream.ts';
import { imageSamples } from '../../../src/trainers/data/samples.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-crop-'));
  await mkdir(path.join(folder, 'set'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const load = (options = {}) =>
  loadImages(path.join(folder, 'set'), {
    cache_dir: path.join(folder, 'cache'),
    resolution: 8,
    channels: 1,
    random_crop: true,
    ...options,
  });

/** A grey image whose pixel in column x has the value 10 x, so that a crop tells where it is from. */
async function ramp(name: string, width: number, height: number): Promise<void> {
  const pixels = Uint8Array.from({ length: width * height }, (_, i) => (i % width) * 10);
  const image = sharp(pixels, { raw: { width, height, channels: 1 } });
  await image.png().toFile(path.join(folder, 'set', name));
}

/** The first columns of many samples of image `index`. */
function firstColumns(set: ImageSet, index: number, random_flip = false): Set<number> {
  const source = imageSamples(set, { random_flip });
  const stream = new RandomStream(3);
  const sample = new Float32Array(64);
  return new Set(
    Array.from({ length: 200 }, () => {
      source.fill(index, sample, stream);
      const row = Array.from(sample.subarray(0, 8), (value) => Math.round((value + 1) * 127.5) / 10);
      const step = (row[1] as number) - (row[0] as number);
      // Eight columns beside each other, all rows alike.
      expect(row).toEqual(Array.from({ length: 8 }, (_, x) => (row[0] as number) + step * x));
      expect(sample.subarray(56)).toEqual(sample.subarray(0, 8));
      return step > 0 ? (row[0] as number) : -(row[7] as number);
    }),
  );
}

it('training draws from the whole of the longer side, the set itself gives the centre', async () => {
  await ramp('a.png', 12, 8);
  await ramp('b.png', 8, 8);
  const set = await load();
  expect([set.height, set.width]).toEqual([8, 8]);
  expect(set.uncropped?.(0)).toMatchObject({ height: 8, width: 12 });
  expect(set.uncropped?.(1)).toMatchObject({ height: 8, width: 8 });
  expect([...set.pixels(0).subarray(0, 8)]).toEqual([20, 30, 40, 50, 60, 70, 80, 90]);
  expect([...set.pixels(1).subarray(0, 3)]).toEqual([0, 10, 20]);
  expect([...firstColumns(set, 0)].sort()).toEqual([0, 1, 2, 3, 4]);
  expect([...firstColumns(set, 1)]).toEqual([0]);
  expect(firstColumns(set, 0, true).size).toBeGreaterThan(8);
});

it('is resized to the shorter side, by the size after turning, and at most four times the other', async () => {
  await ramp('a.png', 24, 16);
  await ramp('b.png', 25, 2);
  const turned = sharp(path.join(folder, 'set/a.png')).withMetadata({ orientation: 6 });
  await turned.png().toFile(path.join(folder, 'set/c.png'));
  const set = await load();
  const sizes = [0, 1, 2].map((i) => [set.uncropped?.(i).height, set.uncropped?.(i).width]);
  expect(sizes).toEqual([
    [8, 12],
    [8, 32],
    [12, 8],
  ]);
  const wide = await load({ resolution: [4, 8] });
  expect([wide.uncropped?.(0).height, wide.uncropped?.(0).width]).toEqual([5, 8]);
});

it('is the same from the cache and from the disk, and another set than without', async () => {
  await ramp('a.png', 12, 8);
  await ramp('b.png', 9, 8);
  const first = await load();
  for (const again of [await load(), await load({ max_memory_bytes: 0 })]) {
    expect(again.fingerprint).toBe(first.fingerprint);
    for (const i of [0, 1]) {
      expect([...again.pixels(i)]).toEqual([...first.pixels(i)]);
      expect([...(again.uncropped?.(i).pixels ?? [])]).toEqual([...(first.uncropped?.(i).pixels ?? [])]);
    }
    expect(() => again.pixels(2)).toThrow(InvalidArgumentError);
  }
  const centred = await load({ random_crop: false });
  expect(centred.uncropped).toBeUndefined();
  expect(centred.fingerprint).not.toBe(first.fingerprint);
  expect([...centred.pixels(0)]).toEqual([...first.pixels(0)]);
  await expect(load({ center_crop: true })).rejects.toThrow(/exclude each other/);
});
