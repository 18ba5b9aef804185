import { createHash } from 'node:crypto';
import { fillSample } from '../../datasets/images/augment.ts';
import type { ImageSet, SizedPixels } from '../../datasets/images/image-set.ts';
import type { PointSet } from '../../datasets/points/points.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { formatShape, sameShape } from '../../graph/types.ts';
import type { DiffusionModel } from '../../models/model.ts';
import type { RandomStream } from '../../random/random-stream.ts';

/** Where training samples come from, as the network sees them. */
export interface SampleSource {
  readonly name: string;
  readonly count: number;
  /** Shape of one sample: [dims], or [channels, height, width]. */
  readonly sampleShape: readonly number[];
  /** The class of each sample, from 0, where there are classes. */
  readonly labels?: Int32Array | undefined;
  /** Equal for equal samples. */
  readonly fingerprint: string;
  /** Where the samples are images: the set, and what is done with each. */
  readonly images?: { readonly images: ImageSet; readonly augmentation: ImageAugmentation } | undefined;
  /** Writes sample `index`; random decisions are drawn from `stream`. */
  fill(index: number, target: Float32Array, stream: RandomStream): void;
}

export interface ImageAugmentation {
  /** Mirrors half of the images, drawn anew each time. */
  readonly random_flip: boolean;
}

export function pointSource({ name, count, dims, data }: PointSet): SampleSource {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return {
    name,
    count,
    sampleShape: [dims],
    fingerprint: createHash('sha256').update(bytes).digest('hex'),
    fill: (index, target) => target.set(data.subarray(index * dims, (index + 1) * dims)),
  };
}

/** Images in [-1, 1], channels first, mirrored and cropped at random where that was asked for. */
export function imageSource(images: ImageSet, { random_flip }: ImageAugmentation): SampleSource {
  return {
    images: { images, augmentation: { random_flip } },
    name: images.name,
    count: images.count,
    sampleShape: [images.channels, images.height, images.width],
    labels: images.labels,
    fingerprint: images.fingerprint,
    fill: (index, target, stream) => {
      const flip = random_flip && stream.uniform() < 0.5;
      const { pixels, height, width } = wholeImage(images, index);
      const offset = (length: number, kept: number) =>
        length > kept ? stream.integer(length - kept + 1) : 0;
      const crop = {
        top: offset(height, images.height),
        left: offset(width, images.width),
        height: images.height,
        width: images.width,
      };
      fillSample(target, 0, pixels, { channels: images.channels, height, width }, { flip, crop });
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

/**
 * @param dropout probability that a sample is shown without its class, for which the model's last class stands.
 * @throws {InvalidArgumentError} when a class-conditional model has no class for a label, or there are no labels.
 */
export function refuseWrongLabels(
  { classCount }: DiffusionModel,
  { name, labels }: SampleSource,
  dropout: number,
): void {
  if (classCount === undefined) {
    if (dropout === 0) return;
    throw new InvalidArgumentError(`class_dropout_prob is ${dropout}, but the model has no num_class_embeds`);
  }
  if (!labels)
    throw new InvalidArgumentError(
      `the model has ${classCount} classes, but the data set '${name}' has no labels: leave out num_class_embeds, or label every sample`,
    );
  const usable = dropout > 0 ? classCount - 1 : classCount;
  const wrong = labels.find((label) => label < 0 || label >= usable);
  if (wrong !== undefined)
    throw new InvalidArgumentError(
      `the data set '${name}' has the label ${wrong}, but the model has classes for 0 to ${usable - 1}: set num_class_embeds to the number of classes, and one more with class_dropout_prob`,
    );
}

/** @throws {InvalidArgumentError} when the model takes samples of another shape. */
export function refuseMismatch(model: DiffusionModel, source: SampleSource): void {
  if (sameShape(model.sampleShape, source.sampleShape)) return;
  const advice =
    source.sampleShape.length === 1
      ? `make the model with in_features: ${source.sampleShape[0]}`
      : `make the model with in_channels: ${source.sampleShape[0]} and sample_size: [${source.sampleShape.slice(1).join(', ')}], or load the images in its size`;
  throw new InvalidArgumentError(
    `the data set '${source.name}' has samples of shape ${formatShape(source.sampleShape)}, but the model takes ${formatShape(model.sampleShape)}: ${advice}`,
  );
}
