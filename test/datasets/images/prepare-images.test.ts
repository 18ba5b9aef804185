import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { prepareImage } from '../../../src/datasets/images/decode.ts';
import type { ImageFormat } from '../../../src/datasets/images/image-set.ts';
import { prepareImages } from '../../../src/datasets/images/prepare-images.ts';
import type { SourceImage } from '../../../src/datasets/images/sources/image-source.ts';
import { Channel } from '../../../src/threads/channel.ts';
import { limitThreads } from '../../../src/threads/threads.ts';

const format: ImageFormat = { height: 16, width: 16, channels: 3, crop: 'center', interpolation: 'bilinear' };
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-prepare-'));
  limitThreads(2);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** JPEG files in memory and on the disk, each with Huffman codes of its own; some are PNG, progressive, cut off or missing. */
async function image(i: number): Promise<SourceImage> {
  const [width, height] = [30 + (i % 7), 20 + (i % 11)];
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, at) => 128 + 100 * Math.sin(at / (3 + i)));
  const picture = sharp(pixels, { raw: { width, height, channels: 3 } });
  const jpeg = picture.jpeg({ optimiseCoding: true, progressive: i % 40 === 7 });
  const file = await (i % 50 === 8 ? picture.png() : jpeg).toBuffer();
  const content = i % 90 === 30 ? file.subarray(0, 200) : file;
  const named = { source: `image ${i}`, label: i % 3 };
  if (i % 2 === 1) return { ...named, encoded: content };
  const target = path.join(folder, `${i}.jpg`);
  if (i % 88 !== 44) await writeFile(target, content);
  return { ...named, path: target };
}

it('gives the same with threads as without', async () => {
  const started = vi.spyOn(Channel.prototype, 'started');
  const call = vi.spyOn(Channel.prototype, 'call');
  const images = await Promise.all(Array.from({ length: 200 }, (_, i) => image(i)));
  const alone = await Promise.all(images.map((each) => prepareImage(each, format)));
  expect(alone.filter((each) => 'reason' in each).map(({ source }) => source)).toEqual(
    [30, 44, 120, 132].map((i) => `image ${i}`),
  );
  const source = {
    name: 'images',
    async *images() {
      for (const [i, each] of images.entries()) {
        if (i === 130) await Promise.all(started.mock.results.map(({ value }) => value));
        yield each;
      }
    },
  };
  const prepared: unknown[] = [];
  for await (const each of prepareImages(source, format, 4)) prepared.push(each);
  expect(prepared).toEqual(alone);
  const asked = call.mock.calls.flatMap(([request]) => (request as { images: unknown[] }).images);
  expect(started).toHaveBeenCalledTimes(2);
  expect(asked.length).toBeGreaterThan(60);
});
