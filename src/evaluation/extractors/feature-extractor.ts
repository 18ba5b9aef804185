import { createHash } from '#platform/hash';
import { requireArray, requireObject } from '../../arguments.ts';
import { DisposedError, InvalidArgumentError } from '../../errors.ts';

/** An 8-bit image: height x width x channels, row-major, channels 1 (grey) or 3 (RGB). */
export interface FeatureImage {
  /** The bytes, 0 to 255, row by row. */
  readonly data: Uint8Array;
  /** Rows of pixels, at least 1. */
  readonly height: number;
  /** Pixels of a row, at least 1. */
  readonly width: number;
  /** 1 (grey) or 3 (red, green, blue). */
  readonly channels: number;
}

/**
 * Turns images into the vectors that metrics compare. Results of different extractors cannot be compared, so every
 * report names the extractor and its checksum. Any object of this shape serves as `extractor` of `evaluate` and
 * `imageStatistics`; `extractors.register` gives one a name.
 */
export interface FeatureExtractor {
  /** What reports call it. */
  readonly name: string;
  /** SHA-256 in hex of the weights, or of the definition where there are none. */
  readonly checksum: string;
  /** Values of one feature vector. */
  readonly dims: number;
  /** A sentence on what figures of these features must not be taken for; reports have it as a warning. Default: none. */
  readonly caveat?: string | undefined;
  /**
   * Takes the features of images.
   *
   * @returns row-major, images.length x dims.
   */
  extract(images: readonly FeatureImage[]): Promise<Float32Array>;
  /** Frees what the extractor holds. The package's own do nothing on a second call, and refuse every later `extract`. */
  dispose(): Promise<void>;
}

/** @throws {InvalidArgumentError} when an image's data do not fit its shape, or it is neither grey nor RGB. */
function checkImages(images: readonly FeatureImage[]): void {
  if (!Array.isArray(images)) throw new InvalidArgumentError('images must be a list of images');
  images.forEach((image, i) => {
    requireObject(`image ${i}`, image);
    const { data, height, width, channels } = image;
    requireArray(`data of image ${i}`, data);
    const sizes = [height, width].every((size) => Number.isInteger(size) && size >= 1);
    if (!sizes || (channels !== 1 && channels !== 3)) {
      throw new InvalidArgumentError(
        `image ${i} is ${height} x ${width} x ${channels}; it must be height x width x channels with 1 or 3 channels.`,
      );
    }
    if (data.length !== height * width * channels) {
      throw new InvalidArgumentError(
        `image ${i} has ${data.length} values, but ${height} x ${width} x ${channels} needs ${height * width * channels}.`,
      );
    }
  });
}

export const RAW_PIXELS_CAVEAT =
  'raw pixels compare brightness place by place, not what images show. Against real digits, Gaussian noise around the ' +
  'mean digit has Precision 0.68, but Coverage 0.02. Take another extractor, such as inception, before you conclude ' +
  'anything about quality';

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
  readonly caveat = RAW_PIXELS_CAVEAT;
  private readonly shape: readonly [number, number, number];
  private disposed = false;

  /** @param shape of every image; others are refused, since resizing would change the features. */
  constructor(shape: Omit<FeatureImage, 'data'>) {
    requireObject('the shape of the images', shape);
    const { height, width, channels } = shape;
    this.dims = height * width * channels;
    checkImages([{ ...shape, data: new Uint8Array(Number.isSafeInteger(this.dims) ? Math.max(0, this.dims) : 0) }]);
    this.shape = [height, width, channels];
    this.name = `raw-pixels ${this.shape.join('x')}`;
    this.checksum = createHash('sha256').update(`${this.name} / 255`).digest('hex');
  }

  /** @throws {InvalidArgumentError} for an image of another size. @throws {DisposedError} after `dispose()`. */
  async extract(images: readonly FeatureImage[]): Promise<Float32Array> {
    if (this.disposed) throw disposedError(this);
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

  async dispose(): Promise<void> {
    this.disposed = true;
  }
}

function disposedError({ name }: FeatureExtractor): DisposedError {
  return new DisposedError(`the extractor ${name} was disposed of, and cannot be used after dispose(): load it again`);
}

/** A loaded model that turns a batch of images into one vector each. */
export interface FeatureModel {
  /** @returns `data` row-major, images.length x dims. */
  run(images: readonly FeatureImage[]): Promise<{ data: Float32Array; dims: number }>;
  dispose(): Promise<void>;
}

/** A model as an extractor; it sees `batchSize` images at a time. */
export class ModelFeatures implements FeatureExtractor {
  private disposed: Promise<void> | undefined;

  protected constructor(
    /** What reports call it. */
    readonly name: string,
    /** SHA-256 in hex of its weights: features of different weights do not compare. */
    readonly checksum: string,
    /** Length of a feature vector. */
    readonly dims: number,
    private readonly model: FeatureModel,
    private readonly batchSize: number,
  ) {}

  /** @throws {InvalidArgumentError} for a malformed image. @throws {DisposedError} after `dispose()`. */
  async extract(images: readonly FeatureImage[]): Promise<Float32Array> {
    if (this.disposed) throw disposedError(this);
    checkImages(images);
    const features = new Float32Array(images.length * this.dims);
    for (let start = 0; start < images.length; start += this.batchSize) {
      const { data } = await this.model.run(images.slice(start, start + this.batchSize));
      features.set(data, start * this.dims);
    }
    return features;
  }

  dispose(): Promise<void> {
    this.disposed ??= this.model.dispose();
    return this.disposed;
  }
}

/** The d of a shape (n, d, 1, ...). @throws {InvalidArgumentError} for any other shape. */
export function vectorLength(shape: readonly number[], count: number, what: string): number {
  const [n, dims, ...rest] = shape;
  if (n === count && dims !== undefined && dims >= 1 && rest.every((length) => length === 1)) return dims;
  throw new InvalidArgumentError(
    `${what} has the shape (${shape.join(', ')}) for ${count} images; features need (${count}, dims). Choose an output after the pooling.`,
  );
}
