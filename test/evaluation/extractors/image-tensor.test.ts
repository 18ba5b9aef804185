import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import { imageTensor } from '../../../src/evaluation/extractors/image-tensor.ts';

const fixture = JSON.parse(
  readFileSync(new URL('../../fixtures/metrics/bilinear-torch.json', import.meta.url), 'utf8'),
) as {
  image: { height: number; width: number; channels: number; data: number[] };
  resized: { height: number; width: number; nchw: number[] }[];
};
const image = { ...fixture.image, data: Uint8Array.from(fixture.image.data) };
const unscaled = { mean: [0, 0, 0], std: [1, 1, 1] } as const;

test.each(fixture.resized)("$height x $width as torch's interpolate", ({ height, width, nchw }) => {
  const tensor = imageTensor([image], { height, width, layout: 'NCHW', ...unscaled });
  expect(tensor).toHaveLength(nchw.length);
  // Computed in float64, stored in float32: half a unit of 2^-24 of values up to 1.
  tensor.forEach((value, at) => {
    expect(Math.abs(value - (nchw[at] as number) / 255)).toBeLessThan(1e-7);
  });
});

test('channels last, mean and std of each channel, grey repeated', () => {
  const grey = { data: Uint8Array.of(0, 255), height: 1, width: 2, channels: 1 };
  const options = { height: 1, width: 2, mean: [0, 0.5, 1], std: [1, 0.5, 2] } as const;
  expect([...imageTensor([grey], { ...options, layout: 'NHWC' })]).toEqual([0, -1, -0.5, 1, 1, 0]);
  expect([...imageTensor([grey], { ...options, layout: 'NCHW' })]).toEqual([0, 1, -1, 1, -0.5, 0]);
});

test.each([
  [7, 3],
  [3, 8],
  [11, 13],
])("asymmetric to %i x %i as resize_bilinear of TensorFlow 1, by tfjs's", async (height, width) => {
  const tf = createRequire(import.meta.url)('@tensorflow/tfjs') as typeof import('@tensorflow/tfjs');
  await tf.setBackend('cpu');
  const pixels = tf.tensor3d(image.data, [image.height, image.width, image.channels], 'float32');
  const expected = tf.image.resizeBilinear(pixels, [height, width], false, false).dataSync();
  const options = { height, width, layout: 'NHWC', resize: 'asymmetric', ...unscaled } as const;
  const tensor = imageTensor([image], options);
  expect(tensor).toHaveLength(expected.length);
  // tfjs computes in float64 too and stores pixels up to 255 in float32.
  tensor.forEach((value, at) => {
    expect(Math.abs(value - (expected[at] as number) / 255)).toBeLessThan(2e-7);
  });
});

interface FilteredCase {
  height: number;
  width: number;
  pixels: number[];
  to: [height: number, width: number];
  clean: number[];
  bicubic: number[];
  cropped: number[];
}
const filtered = JSON.parse(
  readFileSync(new URL('../../fixtures/images/clean-resize.json', import.meta.url), 'utf8'),
) as FilteredCase[];

test.each(filtered)("$height x $width to $to by Pillow's bicubic filter, as clean-fid, dgm-eval and cmmd", (one) => {
  const [height, width] = one.to;
  const picture = { data: Uint8Array.from(one.pixels), height: one.height, width: one.width, channels: 3 };
  const resized = (options: object) =>
    imageTensor([picture], { height, width, layout: 'NHWC', ...unscaled, ...options }).map((value) => value * 255);
  const largest = (values: Float32Array, expected: readonly number[]) => {
    expect(values).toHaveLength(expected.length);
    return values.reduce((most, value, at) => Math.max(most, Math.abs(value - (expected[at] as number))), 0);
  };
  // float32 after each pass here and in Pillow, divided by 255 and multiplied again: a few units of 2^-16 near 255.
  expect(largest(resized({ resize: 'clean' }), one.clean)).toBeLessThan(5e-5);
  // Bytes are equal; only the division and the multiplication round.
  expect(largest(resized({ resize: 'bicubic' }), one.bicubic)).toBeLessThan(2e-5);
  const square = { resize: 'bicubic', center_crop: true, height, width: height };
  expect(largest(resized(square), one.cropped)).toBeLessThan(2e-5);
});

test('grey by a filter is repeated, and order and scale are as for others', () => {
  const grey = { data: Uint8Array.of(0, 255, 0, 255), height: 2, width: 2, channels: 1 };
  const options = { height: 2, width: 2, mean: [0, 0.5, 1], std: [1, 0.5, 2], layout: 'NCHW' } as const;
  const plain = imageTensor([grey], options);
  for (const resize of ['clean', 'bicubic'] as const)
    expect(imageTensor([grey], { ...options, resize })).toEqual(plain);
});
