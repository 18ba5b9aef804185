import { createHash } from '#platform/hash';
import { fillSample } from '../../datasets/images/augment.ts';
import type { ImageSet, SizedPixels } from '../../datasets/images/image-set.ts';
import type { PointSet } from '../../datasets/points/points.ts';
import { DatasetError } from '../../errors.ts';
import type { RandomStream } from '../../random/random-stream.ts';

/** The training samples as the network sees them. */
export interface Samples {
  readonly name: string;
  readonly count: number;
  /** Shape of one sample: [dims], or [channels, height, width]. */
  readonly sampleShape: readonly number[];
  /** The class of each sample, from 0, where there are classes. */
  readonly labels?: Int32Array | undefined;
  /** Equal for equal samples. */
  readonly fingerprint: string;
  /** Shape of what the model is given beside a sample, where that is a part of the samples. */
  readonly conditionShape?: readonly number[] | undefined;
  /** Whether `fill` draws from its stream; default false. */
  readonly isRandom?: boolean | undefined;
  /** Where the samples are images: the set, what is done with each, and the images that the model is given beside them. */
  readonly images?:
    | {
        readonly images: ImageSet;
        readonly augmentation: ImageAugmentation;
        readonly condition?: ImageSet | undefined;
      }
    | undefined;
  /**
   * Writes sample `index`, and into `condition` what the model is given beside it; random decisions about an image are drawn
   * from `stream`.
   */
  fill(index: number, target: Float32Array, stream: RandomStream, condition?: Float32Array): void;
}

export interface ImageAugmentation {
  /** Mirrors half of the images, drawn anew each time. */
  readonly random_flip: boolean;
}

export function pointSamples({ name, count, dims, data }: PointSet): Samples {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return {
    name,
    count,
    sampleShape: [dims],
    fingerprint: createHash('sha256').update(bytes).digest('hex'),
    fill: (index, target) => {
      for (let i = 0; i < dims; i++) target[i] = data[index * dims + i] as number;
    },
  };
}

/**
 * Images in [-1, 1] as [channels, height, width], mirrored and cropped at random where that was asked for.
 *
 * @param condition images that the model is given beside them, one for each, mirrored and cropped alike.
 */
export function imageSamples(images: ImageSet, { random_flip }: ImageAugmentation, condition?: ImageSet): Samples {
  return {
    images: { images, augmentation: { random_flip }, condition },
    name: images.name,
    count: images.count,
    sampleShape: [images.channels, images.height, images.width],
    isRandom: true,
    labels: images.labels,
    fingerprint: images.fingerprint,
    conditionShape: condition && [condition.channels, condition.height, condition.width],
    fill: (index, target, stream, beside) => {
      const flip = random_flip && stream.uniform() < 0.5;
      const { pixels, height, width } = wholeImage(images, index);
      const offset = (length: number, kept: number) => (length > kept ? stream.integer(length - kept + 1) : 0);
      const crop = {
        top: offset(height, images.height),
        left: offset(width, images.width),
        height: images.height,
        width: images.width,
      };
      fillSample(target, 0, pixels, { channels: images.channels, height, width }, { flip, crop });
      if (!condition || !beside) return;
      const other = wholeImage(condition, index);
      if (other.height !== height || other.width !== width)
        throw new DatasetError(
          `image ${index} of '${images.name}' is ${height}x${width} before its crop, but its condition in '${condition.name}' ${other.height}x${other.width} (height x width): they are cropped alike, and must be of one size`,
        );
      fillSample(beside, 0, other.pixels, { channels: condition.channels, height, width }, { flip, crop });
    },
  };
}

/** An image with all that a random crop may keep. */
export function wholeImage(images: ImageSet, index: number): SizedPixels {
  const { height, width } = images;
  return images.uncropped?.(index) ?? { pixels: images.pixels(index), height, width };
}

export function isImageSet(dataset: PointSet | ImageSet): dataset is ImageSet {
  return 'pixels' in dataset;
}
