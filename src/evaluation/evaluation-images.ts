import { createHash } from 'node:crypto';
import { convertChannels } from '../datasets/images/decode.ts';
import type { ImageSet } from '../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { ImageBytes } from '../pipelines/image-bytes.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import type { FeatureImage } from './extractors/feature-extractor.ts';

/** Images of one size to take features of, in batches. Every pass gives the same images in the same order. */
export interface EvaluationImages {
  readonly name: string;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
  /** Hex digest, equal for equal images; undefined for images that are drawn from a model. */
  readonly fingerprint: string | undefined;
  batches(size: number, signal?: AbortSignal): AsyncIterable<FeatureImage[]>;
}

/** Which images of a set to take, as ascending numbers. @throws {InvalidArgumentError} when it has too few. */
export type Selection = (name: string, count: number) => Uint32Array;

/** All images, or a random part of `wanted`. */
export function randomPart(wanted: number | undefined, seed: number): Selection {
  return (name, count) => {
    if (wanted !== undefined && wanted > count)
      throw new InvalidArgumentError(
        `${name} has ${count} images, fewer than the ${wanted} that were asked for`,
      );
    const order = new RandomStream(seed, STREAM.metrics, 1).permutation(count);
    return order.subarray(0, wanted ?? count).sort();
  };
}

/** Share `index` (from 1) of `shares` consecutive ones of nearly equal size. */
export function consecutiveShare(index: number, shares: number): Selection {
  return (name, count) => {
    const start = Math.floor(((index - 1) * count) / shares);
    const end = Math.floor((index * count) / shares);
    if (end > start) return Uint32Array.from({ length: end - start }, (_, i) => start + i);
    throw new InvalidArgumentError(`${name} has ${count} images, too few for ${shares} shares`);
  };
}

/** The selected images of a loaded set. */
export function imagesOfSet(set: ImageSet, select: Selection): EvaluationImages {
  const { name, height, width } = set;
  const indices = select(name, set.count);
  const part = indices.length < set.count ? `${set.fingerprint} ${indices.join(' ')}` : set.fingerprint;
  return {
    name,
    count: indices.length,
    height,
    width,
    channels: set.channels === 1 ? 1 : 3,
    fingerprint: createHash('sha256').update(part).digest('hex'),
    async *batches(size) {
      for (let start = 0; start < indices.length; start += size)
        yield Array.from(indices.subarray(start, start + size), (index) =>
          // A copy: a set that lies in a file has one buffer for all its images.
          featureImage(set.pixels(index).slice(), height, width, set.channels),
        );
    },
  };
}

/** Images as bytes, one by one. */
export function featureImages({ data, count, height, width, channels }: ImageBytes): FeatureImage[] {
  const size = height * width * channels;
  return Array.from({ length: count }, (_, i) =>
    featureImage(data.subarray(i * size, (i + 1) * size), height, width, channels),
  );
}

/** With grey repeated in all colours where `channels` is 3. */
export function withChannels(image: FeatureImage, channels: 1 | 3): FeatureImage {
  if (image.channels === channels) return image;
  return { ...image, data: convertChannels(image.data, image.channels, channels), channels };
}

/** Extractors take grey or RGB: transparent images are laid on white, as those of files are. */
function featureImage(data: Uint8Array, height: number, width: number, channels: number): FeatureImage {
  if (channels !== 4) return { data, height, width, channels };
  const rgb = new Uint8Array(height * width * 3);
  for (let p = 0; p < height * width; p++) {
    const alpha = data[4 * p + 3] as number;
    for (let c = 0; c < 3; c++)
      rgb[3 * p + c] = Math.round(((data[4 * p + c] as number) * alpha) / 255 + 255 - alpha);
  }
  return { data: rgb, height, width, channels: 3 };
}
