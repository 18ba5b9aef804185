import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { assembleKernels } from '../../scripts/assemble-kernels.ts';
import { decodeJpeg } from '../../src/platform/jpeg/decode-jpeg.ts';
import { JPEG_KERNELS } from '../../src/platform/jpeg/jpeg-kernels-binary.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

it('has the binary of its source: run `npx tsx scripts/assemble-kernels.ts` where it does not', async () => {
  expect(JPEG_KERNELS).toBe(await assembleKernels('JPEG_KERNELS'));
});

const fixture = (name: string) => readFileSync(new URL(`../fixtures/images/jpeg/${name}.jpg`, import.meta.url));

/** A picture of 45x67 with details of all sizes. */
const picture = () => {
  const pixels = Uint8Array.from({ length: 45 * 67 * 3 }, (_, i) => 128 + 90 * Math.sin(i / 11) + 37 * Math.cos(i * i));
  return sharp(pixels, { raw: { height: 45, width: 67, channels: 3 } });
};

/** A JPEG file with an EXIF orientation and no colour profile. */
async function oriented(orientation: number): Promise<Buffer> {
  const file = await picture().withExif({ IFD0: {} }).jpeg().toBuffer();
  // The entry of a directory: the tag, a short, one of it, its value.
  const entry = file.indexOf(Buffer.from('1201030001000000', 'hex'));
  expect(entry).toBeGreaterThan(0);
  file[entry + 8] = orientation;
  return file;
}

describe('decodeJpeg', () => {
  // The output of test/fixtures/images/make-jpeg.py: Pillow with libjpeg-turbo.
  it.each([
    ['444', 3, '433a4bb3590657cb75ab1405ccb2de9d365d97a5ec8745d44de6e1fb2161dd52'],
    ['422', 3, '292f20abba2b40c2b105a42cec1cc6b3927928dfe5922169f0c0cc9ca8586fa1'],
    ['420', 3, '6d089f786c8e4c5b45b9383785a7096949b12f1a3f5d60a0bde7d259323e81a4'],
    ['optimized', 3, '27615d9b75c767d4bf3b2c13223576813259efb6f4b0e66c69b1fe673774f723'],
    ['restart', 3, '57730742652595c7d17004e207bec3fbf39b28ab61ad1e72aa451016a5303e4e'],
    ['grey', 1, '61572edaf6b234db84bd6098671ef6e8faef1e61c093fe3385e28df1e9f671c5'],
  ] as const)("gives Pillow's bytes of %s", (name, channels, sha256) => {
    const decoded = decodeJpeg(fixture(name));
    expect(decoded).toMatchObject({ height: 45, width: 67, channels });
    expect(
      createHash('sha256')
        .update(decoded?.pixels ?? '')
        .digest('hex'),
    ).toBe(sha256);
  });

  it.each([
    ['colours of half the rows', () => fixture('440')],
    ['a file of red, green and blue', () => fixture('rgb')],
    ['a progressive file', () => fixture('progressive')],
    ['four colours', () => picture().toColourspace('cmyk').jpeg().toBuffer()],
    ['a colour profile', () => picture().withIccProfile('p3').jpeg().toBuffer()],
    ['an image that is turned', () => oriented(6)],
    ['half of a file', () => fixture('420').subarray(0, 900)],
    ['a file without its end', () => fixture('420').subarray(0, -2)],
    ['another format', () => picture().png().toBuffer()],
    ['nothing', () => new Uint8Array()],
  ])('leaves %s to sharp', async (_, make) => {
    expect(decodeJpeg(await make())).toBeUndefined();
  });

  it('takes a file whose EXIF says that it is upright', async () => {
    expect(decodeJpeg(await oriented(1))).toBeDefined();
  });

  it('decodes as sharp does, or not at all, in all qualities and sizes, damaged or not', async () => {
    const stream = new RandomStream(7);
    let whole = 0;
    for (let n = 0; n < 60; n++) {
      const [width, height] = [1 + stream.integer(70), 1 + stream.integer(70)];
      const pixels = Uint8Array.from({ length: width * height * 3 }, () => stream.integer(256));
      const file = await sharp(pixels, { raw: { width, height, channels: 3 } })
        .blur(0.3 + stream.integer(3))
        .jpeg({
          quality: 1 + stream.integer(100),
          chromaSubsampling: n % 2 === 0 ? '4:4:4' : '4:2:0',
          optimiseCoding: n % 3 === 0,
        })
        .toBuffer();
      if (n % 4 === 3) file[stream.integer(file.length)] = stream.integer(256);
      const decoded = decodeJpeg(file);
      if (!decoded) continue;
      whole++;
      const ours = Buffer.from(decoded.pixels);
      expect(ours.equals(await sharp(file).raw().toBuffer()), `image ${n}, ${width}x${height}`).toBe(true);
    }
    expect(whole).toBeGreaterThan(40);
  });
});
