// A feature extractor: the mean brightness of each quarter of an image.
import { createHash } from 'node:crypto';
import type { FeatureExtractor, FeatureImage } from 'iso-diffusion';

export class Quadrants implements FeatureExtractor {
  readonly name = 'quadrants';
  readonly checksum = createHash('sha256').update('mean of each quadrant').digest('hex');
  readonly dims = 4;

  async extract(images: readonly FeatureImage[]): Promise<Float32Array> {
    return Float32Array.from(images.flatMap((image) => [0, 1, 2, 3].map((quadrant) => brightness(image, quadrant))));
  }

  async dispose(): Promise<void> {}
}

function brightness({ data, height, width, channels }: FeatureImage, quadrant: number): number {
  let sum = 0;
  let count = 0;
  for (const [i, value] of data.entries()) {
    const pixel = Math.floor(i / channels);
    const isLower = Math.floor(pixel / width) >= height / 2;
    const isRight = pixel % width >= width / 2;
    if (quadrant !== 2 * Number(isLower) + Number(isRight)) continue;
    sum += value;
    count += 1;
  }
  return sum / (255 * count);
}
