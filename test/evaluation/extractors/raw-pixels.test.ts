import { expect, test } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.ts';
import { RawPixels } from '../../../src/evaluation/extractors/feature-extractor.ts';

const image = (height: number, width: number, channels: number, data?: number[]) => ({
  data: Uint8Array.from(data ?? new Array(height * width * channels).fill(7)),
  height,
  width,
  channels,
});

test('features are the pixels over 255, one image a row', async () => {
  const extractor = new RawPixels({ height: 1, width: 2, channels: 3 });
  expect(extractor.dims).toBe(6);
  const features = await extractor.extract([
    image(1, 2, 3, [0, 51, 102, 153, 204, 255]),
    image(1, 2, 3, [255, 0, 0, 0, 0, 0]),
  ]);
  expect([...features]).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1, 1, 0, 0, 0, 0, 0].map(Math.fround));
  await extractor.dispose();
});

test('the checksum tells sizes apart', () => {
  const small = new RawPixels({ height: 2, width: 2, channels: 3 });
  expect(small.checksum).toMatch(/^[0-9a-f]{64}$/);
  expect(small.checksum).not.toBe(new RawPixels({ height: 3, width: 4, channels: 1 }).checksum);
});

test('mixed sizes, images that are none and shapes that are none are refused', async () => {
  const extractor = new RawPixels({ height: 2, width: 2, channels: 1 });
  await expect(extractor.extract([image(2, 2, 1), image(1, 4, 1)])).rejects.toThrow(/image 1 is 1 x 4 x 1/);
  await expect(extractor.extract([image(2, 2, 1, [1, 2, 3])])).rejects.toThrow(/image 0 has 3 values/);
  await expect(extractor.extract([image(2, 2, 2)])).rejects.toThrow(InvalidArgumentError);
  expect(() => new RawPixels({ height: 0, width: 2, channels: 1 })).toThrow(/0 x 2 x 1/);
  expect(() => new RawPixels({ height: 2.5, width: 2, channels: 1 })).toThrow(InvalidArgumentError);
});
