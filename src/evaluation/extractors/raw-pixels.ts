import { createHash } from 'node:crypto';
import { InvalidArgumentError } from '../../errors.ts';
import { checkImages, type FeatureExtractor, type FeatureImage } from './feature-extractor.ts';

/**
 * The pixels themselves as features, each divided by 255. It needs no model, and measures the distance of images
 * rather than of what they show.
 *
 * @example
 * const features = await new RawPixels({ height: 32, width: 32, channels: 3 }).extract(images); // 3,072 values each
 */
export class RawPixels implements FeatureExtractor {
  readonly name: string;
  readonly checksum: string;
  readonly dims: number;
  private readonly shape: readonly [number, number, number];

  /** @param shape of every image; others are refused, since resizing would change the features. */
  constructor(shape: Omit<FeatureImage, 'data'>) {
    const { height, width, channels } = shape;
    this.dims = height * width * channels;
    checkImages([
      { ...shape, data: new Uint8Array(Number.isSafeInteger(this.dims) ? Math.max(0, this.dims) : 0) },
    ]);
    this.shape = [height, width, channels];
    this.name = `raw-pixels ${this.shape.join('x')}`;
    this.checksum = createHash('sha256').update(`${this.name} / 255`).digest('hex');
  }

  /** @throws {InvalidArgumentError} for an image of another size. */
  async extract(images: readonly FeatureImage[]): Promise<Float32Array> {
    checkImages(images);
    const features = new Float32Array(images.length * this.dims);
    images.forEach(({ data, height, width, channels }, i) => {
      const shape = [height, width, channels].join(' x ');
      if (shape !== this.shape.join(' x ')) {
        throw new InvalidArgumentError(
          `image ${i} is ${shape}, but this extractor compares images of ${this.shape.join(' x ')}; resize all images to one size first.`,
        );
      }
      for (let at = 0; at < data.length; at++) features[i * this.dims + at] = (data[at] as number) / 255;
    });
    return features;
  }

  async dispose(): Promise<void> {}
}
