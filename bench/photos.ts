import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { RandomStream, STREAM } from '../src/random/random-stream.ts';

/** Side of the picture that the photos are cut from. */
const SIDE = 2048;

/**
 * Writes `count` pictures of about 500 x 400 pixels with the spectrum of photos, in which details of half the size have
 * about half the contrast. JPEG files of quality 90 have about 34 kB.
 */
export async function writePhotos(folder: string, count: number, format: 'jpeg' | 'png'): Promise<void> {
  const stream = new RandomStream(0, STREAM.dataset);
  const pixels = await cloudPixels(stream);
  for (let i = 0; i < count; i++) {
    const [width, height] = [460 + stream.integer(81), 360 + stream.integer(81)];
    const [left, top] = [stream.integer(SIDE - width), stream.integer(SIDE - height)];
    const part = sharp(pixels, { raw: { width: SIDE, height: SIDE, channels: 3 } }).extract({
      left,
      top,
      width,
      height,
    });
    const file = await (format === 'jpeg' ? part.jpeg({ quality: 90 }) : part.png()).toBuffer();
    await writeFile(path.join(folder, `${String(i).padStart(4, '0')}.${format}`), file);
  }
}

/** Random values of each size of detail, smoothly enlarged and added up: brightness, and a third as much of each colour. */
async function cloudPixels(stream: RandomStream): Promise<Uint8ClampedArray> {
  const sum = new Float32Array(SIDE * SIDE * 3).fill(127.5);
  for (const { channels, contrast } of [
    { channels: 1, contrast: 2.2 },
    { channels: 3, contrast: 0.77 },
  ] as const)
    for (let size = 8; size <= SIDE; size *= 2) {
      const noise = Uint8Array.from({ length: size * size * channels }, () => stream.integer(256));
      const enlarged = await sharp(noise, { raw: { width: size, height: size, channels } })
        .resize(SIDE, SIDE, { kernel: 'cubic' })
        .toColourspace(channels === 1 ? 'b-w' : 'srgb')
        .raw()
        .toBuffer();
      const weight = contrast * (8 / size) ** 0.8;
      for (let i = 0; i < sum.length; i++) {
        const value = enlarged[channels === 1 ? Math.floor(i / 3) : i] as number;
        sum[i] = (sum[i] as number) + weight * (value - 127.5);
      }
    }
  return Uint8ClampedArray.from(sum);
}
