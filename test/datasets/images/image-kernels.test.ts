import { expect, it } from 'vitest';
import { assembleKernels } from '../../../scripts/assemble-kernels.ts';
import { type Augmentation, fillSample, type ImageShape } from '../../../src/datasets/images/augment.ts';
import { IMAGE_KERNELS } from '../../../src/datasets/images/image-kernels-binary.ts';

it('has the binary of its source: run `npx tsx scripts/assemble-kernels.ts` where it does not', async () => {
  expect(IMAGE_KERNELS).toBe(await assembleKernels('IMAGE_KERNELS'));
});

/** What `fillSample` says it does, pixel by pixel. */
function sampleOf(image: Uint8Array, { channels, height, width }: ImageShape, { flip, crop }: Augmentation): number[] {
  const kept = crop ?? { top: 0, left: 0, height, width };
  const values: number[] = [];
  for (let channel = 0; channel < channels; channel++)
    for (let row = 0; row < kept.height; row++)
      for (let column = 0; column < kept.width; column++) {
        const x = kept.left + (flip ? kept.width - 1 - column : column);
        values.push((image[((kept.top + row) * width + x) * channels + channel] as number) / 127.5 - 1);
      }
  return values;
}

/** Bytes of which neighbours differ; 256 in a row have all values. */
const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 77) % 256);

/** Bits, because values of other bits may be equal; -0 and 0 are. */
const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);

/** Compares a sample with the formula, bit by bit, and that nothing beside it is written. */
function expectFormula(shape: ImageShape, augmentation: Augmentation, image: Uint8Array): void {
  const values = sampleOf(image, shape, augmentation);
  const target = new Float32Array(values.length + 12).fill(7);
  fillSample(target, 5, image, shape, augmentation);
  const expected = Float32Array.from([7, 7, 7, 7, 7, ...values, 7, 7, 7, 7, 7, 7, 7]);
  // A difference by number, as vitest takes long to compare and to print large arrays.
  const wrong = bitsOf(target).findIndex((bits, i) => bits !== bitsOf(expected)[i]);
  expect(wrong, `${JSON.stringify({ shape, augmentation })}: ${target[wrong]}, not ${expected[wrong]}`).toBe(-1);
}

it.each([1, 2, 3, 4, 5])(
  'an image of %i channels becomes the floats of x / 127.5 - 1, cropped and mirrored',
  (channels) => {
    for (const flip of [false, true]) {
      for (const width of [1, 2, 3, 4, 5, 7, 16, 33, 256])
        for (const height of [1, 3]) {
          const shape = { channels, height, width };
          expectFormula(shape, { flip }, bytes(height * width * channels));
        }
      const shape = { channels, height: 6, width: 13 };
      const image = bytes(6 * 13 * channels);
      for (let left = 0; left < 13; left++)
        for (let width = 1; left + width <= 13; width++)
          for (const [top, height] of [
            [0, 1],
            [1, 4],
            [5, 1],
          ] as const)
            expectFormula(shape, { flip, crop: { top, left, height, width } }, image);
    }
  },
);

it('is the same for a part of a buffer, as sets hand it out', () => {
  const set = bytes(3 * 5 * 7 * 3);
  for (let i = 0; i < 3; i++)
    expectFormula({ channels: 3, height: 5, width: 7 }, { flip: i === 1 }, set.subarray(i * 105, (i + 1) * 105));
});

// `STRIP_BYTES` in image-kernels.ts: several strips, the last of fewer rows, and a row longer than a strip.
it.each([
  [3, 100, 403],
  [1, 250, 500],
  [4, 2, 30_001],
])('an image of %i channels, %i x %i, goes through in strips', (channels, height, width) => {
  const image = bytes(height * width * channels);
  const shape = { channels, height, width };
  expectFormula(shape, { flip: false }, image);
  expectFormula(shape, { flip: true }, image);
  const crop = { top: 1, left: 2, height: height - 1, width: width - 5 };
  expectFormula(shape, { flip: true, crop }, image);
});
