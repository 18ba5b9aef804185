import type { ImageSet, SizedPixels } from '../../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { MAX_DROPOUT_NUMBER } from '../../graph/ops/dropout.ts';
import { elementCount } from '../../graph/types.ts';
import { RandomStream, STREAM } from '../../random/random-stream.ts';
import { SampleStreams } from '../../random/sample-streams.ts';
import type { HostBatch } from '../step/batch.ts';
import { type ImageAugmentation, type Samples, wholeImage } from './samples.ts';

/** For class-conditional models. */
interface ClassSettings {
  readonly classCount: number;
  /** Probability that a sample is shown without its class. */
  readonly dropout: number;
}

/** A range of the samples of a step. */
interface SampleRange {
  /** From 0, over all batches of the step and all processes. */
  readonly first: number;
  readonly count: number;
}

/** What decides the batches of a set of samples. */
export interface BatchSettings {
  /** Samples of a step of all processes, which may be cut into several batches. */
  readonly batchSize: number;
  /** The samples of a step that are drawn; default: all. */
  readonly own?: SampleRange | undefined;
  /** Timesteps are drawn from [0, trainTimesteps). Default: none are drawn. */
  readonly trainTimesteps?: number | undefined;
  /** Standard normal numbers of a sample. Default: as many as the sample has values. */
  readonly noiseSize?: number | undefined;
  /**
   * What normal numbers of their own are multiplied by that are added to the noise of a sample, one for each channel, or one
   * for a point; default 0: none are drawn.
   */
  readonly noiseOffset?: number | undefined;
  /** What normal numbers are multiplied by that are added to the noise in x_t, but not to what is predicted; default 0. */
  readonly inputPerturbation?: number | undefined;
  readonly seed: number;
  readonly classes?: ClassSettings | undefined;
}

/** A `BatchStream` of images without the images: all that another thread needs to draw the same batches. */
export interface BatchSpec extends BatchSettings {
  readonly images: DescribedImages;
  readonly augmentation: ImageAugmentation;
  readonly condition: DescribedImages | undefined;
}

type DescribedImages = Omit<ImageSet, 'pixels' | 'uncropped' | 'skipped'>;

/** The images of a step, one for each sample. */
export interface StepImages {
  readonly images: readonly SizedPixels[];
  /** What the model is given beside them; none for a model that takes nothing. */
  readonly conditions: readonly SizedPixels[];
}

/**
 * Draws sample i of step s from (seed, s, i) alone: its noise, timestep, augmentation, class and dropout. A resumed run
 * continues exactly, and however a step is cut into batches, and among processes, its samples are the same. Each epoch
 * visits the samples in a new random order; where the batch size does not divide their number, the last batch of an epoch
 * is filled from the beginning of that epoch's order.
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

  /** The inputs of `count` steps from step `first` (counted from 0), of the own samples. */
  steps(first: number, count: number): HostBatch {
    const { sampleSize, own } = this;
    const { trainTimesteps, noiseSize = sampleSize, seed, classes } = this.settings;
    const samples = count * own.count;
    const clean = new Float32Array(samples * sampleSize);
    const noise = new Float32Array(samples * noiseSize);
    const timestep = new Int32Array(trainTimesteps === undefined ? 0 : samples);
    const class_labels = classes && new Int32Array(samples);
    const { conditionShape } = this.samples;
    const conditionSize = conditionShape ? elementCount(conditionShape) : 0;
    const condition = conditionShape && new Float32Array(samples * conditionSize);
    for (let i = 0; i < count; i++) {
      const step = first + i;
      const [begin, end] = [i * own.count, (i + 1) * own.count];
      this.copySamples(
        step,
        clean.subarray(begin * sampleSize, end * sampleSize),
        condition?.subarray(begin * conditionSize, end * conditionSize),
      );
      const streams = new SampleStreams(seed, own.count, noiseSize, own.first, [STREAM.noise, step]);
      if (trainTimesteps !== undefined) streams.fillIntegers(trainTimesteps, timestep.subarray(begin, end));
      streams.fillNormal(noise.subarray(begin * noiseSize, end * noiseSize));
      if (class_labels) this.copyLabels(step, class_labels.subarray(begin, end));
      this.offset(step, noise.subarray(begin * noiseSize, end * noiseSize));
    }
    return { clean, noise, input_noise: this.perturbed(first, count, noise), timestep, class_labels, condition };
  }

  /** Shifts the noise of each channel of a sample by one number (Guttenberg 2023; diffusers' `--noise_offset`). */
  private offset(step: number, noise: Float32Array): void {
    const { noiseOffset = 0, seed } = this.settings;
    if (noiseOffset === 0) return;
    const { sampleShape } = this.samples;
    const channels = sampleShape.length > 1 ? (sampleShape[0] ?? 1) : 1;
    const streams = new SampleStreams(seed, this.own.count, channels, this.own.first, [STREAM.noise_offset, step]);
    const shifts = streams.fillNormal(new Float32Array(this.own.count * channels));
    const size = noise.length / shifts.length;
    for (let i = 0; i < noise.length; i++)
      noise[i] = (noise[i] as number) + noiseOffset * (shifts[Math.floor(i / size)] as number);
  }

  /**
   * The noise of `count` steps with more noise (Ning et al. 2023, arXiv 2301.11706, algorithm 1; diffusers'
   * `--input_perturbation`); undefined where there is none.
   */
  private perturbed(first: number, count: number, noise: Float32Array): Float32Array | undefined {
    const { inputPerturbation = 0, seed } = this.settings;
    if (inputPerturbation === 0) return undefined;
    const perturbed = new Float32Array(noise.length);
    const length = noise.length / count;
    for (let i = 0; i < count; i++) {
      const { count: samples, first: firstSample } = this.own;
      const path = [STREAM.input_perturbation, first + i];
      const streams = new SampleStreams(seed, samples, length / samples, firstSample, path);
      streams.fillNormal(perturbed.subarray(i * length, (i + 1) * length));
    }
    for (let i = 0; i < noise.length; i++)
      perturbed[i] = (noise[i] as number) + inputPerturbation * (perturbed[i] as number);
    return perturbed;
  }

  /**
   * Fills `target` with the random integers of a dropout, as many for each sample of the range.
   *
   * @param range.first from the first own sample.
   */
  dropoutNumbers(
    { step, dropout, first, count }: { readonly step: number; readonly dropout: number } & SampleRange,
    target: Float32Array,
  ): Float32Array {
    const path = [STREAM.dropout, step, dropout];
    const streams = new SampleStreams(this.settings.seed, count, target.length / count, this.own.first + first, path);
    streams.fillIntegers(2 * MAX_DROPOUT_NUMBER + 1, target);
    for (let i = 0; i < target.length; i++) target[i] = (target[i] as number) - MAX_DROPOUT_NUMBER;
    return target;
  }

  /** What another thread needs to prepare batches; undefined for points, which are quick to copy. */
  get spec(): BatchSpec | undefined {
    const { images } = this.samples;
    if (!images) return undefined;
    const { augmentation, condition } = images;
    return {
      ...this.settings,
      images: described(images.images),
      augmentation,
      condition: condition && described(condition),
    };
  }

  /**
   * A copy of a step's images in the order of the batch, whole where they are cropped at random, and of what the model is
   * given beside them.
   *
   * @throws {InvalidArgumentError} where the samples are not images.
   */
  images(step: number): StepImages {
    const { images, name } = this.samples;
    if (!images) throw new InvalidArgumentError(`the data set '${name}' has no images`);
    const copies = (set: ImageSet) =>
      this.samplesOf(step).map((index) => {
        const { pixels, height, width } = wholeImage(set, index);
        // A Buffer's slice() would share the memory, which is then moved to the thread.
        return { pixels: new Uint8Array(pixels), height, width };
      });
    return { images: copies(images.images), conditions: images.condition ? copies(images.condition) : [] };
  }

  private get own(): SampleRange {
    const { own, batchSize } = this.settings;
    return own ?? { first: 0, count: batchSize };
  }

  /** The own samples of a step by their index in the set. */
  private samplesOf(step: number): number[] {
    const indices = this.epochOrder(Math.floor(step / this.stepsPerEpoch));
    const { own } = this;
    const start = (step % this.stepsPerEpoch) * this.settings.batchSize + own.first;
    return Array.from({ length: own.count }, (_, b) => indices[(start + b) % this.samples.count] as number);
  }

  private copySamples(step: number, target: Float32Array, condition: Float32Array | undefined): void {
    const { samples, sampleSize, own } = this;
    const conditionSize = (condition?.length ?? 0) / own.count;
    const { seed } = this.settings;
    const ofStep = new RandomStream(seed, STREAM.augmentation, step);
    this.samplesOf(step).forEach((index, b) => {
      // Where nothing is random, a stream would take longer than the copy.
      const stream = samples.isRandom ? new RandomStream(seed, STREAM.augmentation, step, own.first + b) : ofStep;
      const beside = condition?.subarray(b * conditionSize, (b + 1) * conditionSize);
      samples.fill(index, target.subarray(b * sampleSize, (b + 1) * sampleSize), stream, beside);
    });
  }

  /** Labels of the step's samples; some are dropped, which the last class stands for. */
  private copyLabels(step: number, target: Int32Array): void {
    const { samples, own } = this;
    const { seed, classes = { classCount: 1, dropout: 0 } } = this.settings;
    const isDropped = (sample: number) =>
      classes.dropout > 0 && new RandomStream(seed, STREAM.class_dropout, step, sample).uniform() < classes.dropout;
    this.samplesOf(step).forEach((index, b) => {
      target[b] = isDropped(own.first + b) ? classes.classCount - 1 : (samples.labels?.[index] ?? 0);
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

function described({ name, count, channels, height, width, labels, fingerprint }: ImageSet): DescribedImages {
  return { name, count, channels, height, width, labels, fingerprint };
}
