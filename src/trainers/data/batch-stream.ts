import type { ImageSet, SizedPixels } from '../../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { MAX_DROPOUT_NUMBER } from '../../graph/ops/dropout.ts';
import { elementCount } from '../../graph/types.ts';
import { RandomStream, STREAM } from '../../random/random-stream.ts';
import type { HostBatch } from '../step/batch.ts';
import { type ImageAugmentation, type Samples, wholeImage } from './samples.ts';

/** For class-conditional models. */
interface ClassSettings {
  readonly classCount: number;
  /** Probability that a sample is shown without its class. */
  readonly dropout: number;
}

/** What decides the batches of a set of samples. */
export interface BatchSettings {
  /** Samples of a step, which may be cut into several batches. */
  readonly batchSize: number;
  /** Timesteps are drawn from [0, trainTimesteps). */
  readonly trainTimesteps: number;
  readonly seed: number;
  readonly classes?: ClassSettings | undefined;
}

/** A `BatchStream` of images without the images: all that another thread needs to draw the same batches. */
export interface BatchSpec extends BatchSettings {
  readonly images: Omit<ImageSet, 'pixels' | 'uncropped' | 'skipped'>;
  readonly augmentation: ImageAugmentation;
}

/**
 * Draws the batches of any step from (seed, step) alone: a resumed run continues exactly. Each epoch visits
 * the samples in a new random order; where the batch size does not divide their number, the last batch of an epoch is
 * filled from the beginning of that epoch's order.
 */
export class BatchStream {
  readonly stepsPerEpoch: number;
  private readonly sampleSize: number;
  private order: { epoch: number; indices: Uint32Array } | undefined;

  constructor(
    readonly samples: Samples,
    readonly settings: BatchSettings,
  ) {
    this.stepsPerEpoch = Math.ceil(samples.count / settings.batchSize);
    this.sampleSize = elementCount(samples.sampleShape);
  }

  /** The inputs of `count` steps from step `first` (counted from 0). */
  steps(first: number, count: number): HostBatch {
    const { sampleSize } = this;
    const { batchSize, trainTimesteps, seed, classes } = this.settings;
    const clean = new Float32Array(count * batchSize * sampleSize);
    const noise = new Float32Array(clean.length);
    const timestep = new Int32Array(count * batchSize);
    const class_labels = classes && new Int32Array(count * batchSize);
    for (let i = 0; i < count; i++) {
      const rows = [i * batchSize * sampleSize, (i + 1) * batchSize * sampleSize] as const;
      this.copySamples(first + i, clean.subarray(...rows));
      new RandomStream(seed, STREAM.noise, first + i).fillNormal(noise.subarray(...rows));
      if (class_labels) this.copyLabels(first + i, class_labels.subarray(i * batchSize, (i + 1) * batchSize));
      const times = new RandomStream(seed, STREAM.timesteps, first + i);
      for (let b = 0; b < batchSize; b++) timestep[i * batchSize + b] = times.integer(trainTimesteps);
    }
    return { clean, noise, timestep, class_labels };
  }

  /** Fills `target` with the random integers of the dropout `dropout` for one batch of a step. */
  dropoutNumbers(
    { step, batch, dropout }: { readonly step: number; readonly batch: number; readonly dropout: number },
    target: Float32Array,
  ): Float32Array {
    const stream = new RandomStream(this.settings.seed, STREAM.dropout, step, batch, dropout);
    for (let i = 0; i < target.length; i++) target[i] = stream.integer(2 * MAX_DROPOUT_NUMBER + 1) - MAX_DROPOUT_NUMBER;
    return target;
  }

  /** What another thread needs to prepare batches; undefined for points, which are quick to copy. */
  get spec(): BatchSpec | undefined {
    const { images } = this.samples;
    if (!images) return undefined;
    const { name, count, channels, height, width, labels, fingerprint } = images.images;
    const described = { name, count, channels, height, width, labels, fingerprint };
    return { ...this.settings, images: described, augmentation: images.augmentation };
  }

  /**
   * A copy of a step's images in the order of the batch, whole where they are cropped at random.
   *
   * @throws {InvalidArgumentError} where the samples are not images.
   */
  images(step: number): SizedPixels[] {
    const { images, name } = this.samples;
    if (!images) throw new InvalidArgumentError(`the data set '${name}' has no images`);
    return this.samplesOf(step).map((index) => {
      const { pixels, height, width } = wholeImage(images.images, index);
      // A Buffer's slice() would share the memory, which is then moved to the thread.
      return { pixels: new Uint8Array(pixels), height, width };
    });
  }

  /** The samples of a step by their index in the set. */
  private samplesOf(step: number): number[] {
    const indices = this.epochOrder(Math.floor(step / this.stepsPerEpoch));
    const { batchSize } = this.settings;
    const start = (step % this.stepsPerEpoch) * batchSize;
    return Array.from({ length: batchSize }, (_, b) => indices[(start + b) % this.samples.count] as number);
  }

  private copySamples(step: number, target: Float32Array): void {
    const { samples, sampleSize } = this;
    const augmentation = new RandomStream(this.settings.seed, STREAM.augmentation, step);
    this.samplesOf(step).forEach((index, b) => {
      samples.fill(index, target.subarray(b * sampleSize, (b + 1) * sampleSize), augmentation);
    });
  }

  /** Labels of the step's samples; some are dropped, which the last class stands for. */
  private copyLabels(step: number, target: Int32Array): void {
    const { labels } = this.samples;
    const { classCount, dropout } = this.settings.classes ?? { classCount: 1, dropout: 0 };
    const stream = new RandomStream(this.settings.seed, STREAM.augmentation, step, 1);
    this.samplesOf(step).forEach((index, b) => {
      target[b] = dropout > 0 && stream.uniform() < dropout ? classCount - 1 : (labels?.[index] ?? 0);
    });
  }

  private epochOrder(epoch: number): Uint32Array {
    if (this.order?.epoch !== epoch) {
      const order = new RandomStream(this.settings.seed, STREAM.order, epoch);
      this.order = { epoch, indices: order.permutation(this.samples.count) };
    }
    return this.order.indices;
  }
}
