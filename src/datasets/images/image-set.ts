import { createHash } from '#platform/hash';
import { requireArray, requireObject } from '../../arguments.ts';
import { DatasetError, InvalidArgumentError } from '../../errors.ts';

/**
 * Images of one size, as bytes. `loadImages` reads a set from files, `imagesFromArray` makes one of bytes in memory; an
 * object of your own with these members works too. Every image is height x width x channels (HWC), row by row, with
 * values 0..255 in the order grey, or red, green, blue, or red, green, blue, alpha.
 */
export interface ImageSet {
  /** What logs and errors call the set. */
  readonly name: string;
  /** `owner/name`, where the set is one of the Hugging Face Hub; the model card names it. */
  readonly hubId?: string | undefined;
  /** Images in the set, at least 1. */
  readonly count: number;
  /** 1 (grey), 3 (RGB) or 4 (RGBA). */
  readonly channels: 1 | 3 | 4;
  /** Height of every image in pixels. */
  readonly height: number;
  /** Width of every image in pixels. */
  readonly width: number;
  /** The class of each image, whole numbers from 0, or -1 for an image without one; undefined if none has a class. */
  readonly labels: Int32Array | undefined;
  /** The name of each class by its number, where the source names them. */
  readonly classNames?: readonly string[] | undefined;
  /** Images that could not be used, and other files among them; and why. */
  readonly skipped: readonly SkippedImage[];
  /**
   * The bytes of image `index`, 0 <= index < count; do not write to them. A set that is too large for memory reads them
   * from its cache file into one buffer, where they are valid until the next call.
   *
   * @throws {InvalidArgumentError} when there is no such image.
   * @throws {DatasetError} when the cache file can no longer be read.
   */
  pixels(index: number): Uint8Array;
  /**
   * In a set that is cropped at random: the image before the crop, at least as high and wide as the set's. Training
   * crops at a new place each time; `pixels` gives the centre. Validity and errors are those of `pixels`.
   */
  uncropped?(index: number): SizedPixels;
  /** SHA-256 (hex) of size, labels and pixels: equal for equal sets, wherever they came from. */
  readonly fingerprint: string;
}

/** One image with its size. */
export interface SizedPixels {
  /** Bytes, [height, width, channels]. */
  readonly pixels: Uint8Array;
  /** In pixels. */
  readonly height: number;
  /** In pixels. */
  readonly width: number;
}

/** One image as bytes, with its size and channels. */
export interface PixelImage extends SizedPixels {
  /** 1 (grey), 3 (RGB) or 4 (RGBA). */
  readonly channels: 1 | 3 | 4;
}

/** An image that could not be used, or another file that was found among the images. */
export interface SkippedImage {
  /** Its path, archive member or row. */
  readonly source: string;
  /** Why it could not be used. */
  readonly reason: string;
}

/** Warns of what a set leaves out. @throws {DatasetError} instead when `strict`, the option of that name, is on. */
export function reportSkipped(
  { name, skipped }: Pick<ImageSet, 'name' | 'skipped'>,
  strict: boolean,
  warn: (message: string) => void,
): void {
  const count = skipped.length;
  if (count === 0) return;
  const entries = count === 1 ? '1 entry' : `${count} entries`;
  const examples = skipped.slice(0, 3).map(({ source, reason }) => `${source} (${reason})`);
  const list = `${examples.join(', ')}${count > examples.length ? ', ...' : ''}`;
  if (strict) throw new DatasetError(`${name}: ${entries} cannot be used, which 'strict' refuses: ${list}`);
  warn(`${name}: ${entries} left out: ${list}`);
}

/** The error of a set in which nothing is usable. */
export function nothingUsable({ name, skipped }: Pick<ImageSet, 'name' | 'skipped'>): DatasetError {
  const [first] = skipped;
  return new DatasetError(
    first
      ? `no image of ${name} can be used; the first of ${skipped.length}, ${first.source}: ${first.reason}`
      : `${name} has no image`,
  );
}

/** What every image of a set is turned into. */
export interface ImageFormat {
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3 | 4;
  /**
   * 'center': just large enough to cover height x width, the centre kept; 'random': the same, but kept whole for a crop
   * at each use; 'none': stretched to height x width.
   */
  readonly crop: 'center' | 'random' | 'none';
  readonly interpolation: Interpolation;
}

export const INTERPOLATIONS = ['bilinear', 'bicubic', 'lanczos'] as const;
export type Interpolation = (typeof INTERPOLATIONS)[number];

/** Size and labels of the images that {@link imagesFromArray} is given. */
export interface ImageArrayOptions {
  /** Height of every image in pixels, at least 1. */
  readonly height: number;
  /** Width of every image in pixels, at least 1. */
  readonly width: number;
  /** 1 (grey), 3 (RGB) or 4 (RGBA). */
  readonly channels: 1 | 3 | 4;
  /** The class of each image, whole numbers from 0, or -1 for an image without one; default none. */
  readonly labels?: ArrayLike<number> | undefined;
  /** The name of each class by its number, for the model card; default none. */
  readonly class_names?: readonly string[] | undefined;
  /** What logs and errors call the set; default 'images'. */
  readonly name?: string | undefined;
}

/**
 * A set of images that are in memory already.
 *
 * @param pixels bytes 0..255, [count, height, width, channels]. They are not copied: do not change them afterwards.
 * @throws {InvalidArgumentError} when size, channels or labels are wrong.
 * @throws {DatasetError} when there is no image, or the bytes are not a whole number of images.
 * @example
 * const set = imagesFromArray(new Uint8Array(100 * 16 * 16), { height: 16, width: 16, channels: 1 });
 */
export function imagesFromArray(pixels: Uint8Array, options: ImageArrayOptions): ImageSet {
  requireArray('the pixels', pixels);
  requireObject('the options of imagesFromArray', options);
  const { height, width, channels, name = 'images' } = options;
  for (const [side, length] of Object.entries({ height, width }))
    if (!Number.isInteger(length) || length < 1)
      throw new InvalidArgumentError(
        `the ${side} of the images of '${name}' is ${length}: it must be a whole number of at least 1`,
      );
  if (![1, 3, 4].includes(channels))
    throw new InvalidArgumentError(`'${name}' has images of ${channels} channels: use 1, 3 or 4`);
  const size = height * width * channels;
  const count = pixels.length / size;
  if (count < 1 || !Number.isInteger(count))
    throw new DatasetError(
      `'${name}' has ${pixels.length} bytes, not one or more whole images of ${height}x${width}x${channels} (${size} bytes each)`,
    );
  const labels = checkedLabels(options.labels, count, name);
  const hash = createHash('sha256').update(fingerprintHead({ height, width, channels })).update(pixels);
  if (labels) hash.update(int32Bytes(labels));
  return {
    name,
    count,
    height,
    width,
    channels,
    labels,
    classNames: options.class_names,
    skipped: [],
    fingerprint: hash.digest('hex'),
    pixels(index) {
      requireIndex(index, count);
      return pixels.subarray(index * size, (index + 1) * size);
    },
  };
}

/** The label of an image without a class, as data sets of the Hub write it. */
export const UNLABELLED = -1;

/** The images that have a class, by their numbers; undefined where all have one, or none. */
export function labelledIndices({ labels }: ImageSet): Uint32Array | undefined {
  if (!labels?.includes(UNLABELLED)) return undefined;
  return Uint32Array.from(labels.keys()).filter((index) => labels[index] !== UNLABELLED);
}

/** The images of a set that have a class; the set itself where all have one, or none. */
export function labelledImages(set: ImageSet): ImageSet {
  const indices = labelledIndices(set);
  return indices ? imagesAt(set, indices) : set;
}

/** The images with the numbers that `labelledIndices` gave, of that set or of one that belongs to it image by image. */
export function imagesAt(set: ImageSet, indices: Uint32Array): ImageSet {
  const { name, hubId, height, width, channels, labels, classNames, skipped } = set;
  const count = indices.length;
  const at = (index: number) => {
    requireIndex(index, count);
    return indices[index] as number;
  };
  const part: ImageSet = {
    ...{ name, hubId, count, height, width, channels, classNames, skipped },
    labels: labels && Int32Array.from(indices, (index) => labels[index] ?? UNLABELLED),
    fingerprint: createHash('sha256').update(`labelled images of ${set.fingerprint}`).digest('hex'),
    pixels: (index) => set.pixels(at(index)),
  };
  const uncropped = set.uncropped?.bind(set);
  return uncropped ? { ...part, uncropped: (index) => uncropped(at(index)) } : part;
}

function checkedLabels(labels: ArrayLike<number> | undefined, count: number, name: string): Int32Array | undefined {
  if (!labels) return undefined;
  if (labels.length !== count)
    throw new InvalidArgumentError(`'${name}' has ${count} images, but ${labels.length} labels: give one an image`);
  const wrong = Array.from(labels).findIndex(
    (label) => !Number.isInteger(label) || label < UNLABELLED || label >= 2 ** 31,
  );
  if (wrong >= 0)
    throw new InvalidArgumentError(
      `the label ${labels[wrong]} of image ${wrong} of '${name}' is not a class: use whole numbers from 0, or -1 for an image without one`,
    );
  const classes = Int32Array.from(labels);
  return classes.some((label) => label !== UNLABELLED) ? classes : undefined;
}

/** What a set's fingerprint begins with; pixels, sizes and labels follow. */
export function fingerprintHead({ height, width, channels }: Pick<ImageSet, 'height' | 'width' | 'channels'>): string {
  return `${height}x${width}x${channels}\n`;
}

/** Integers as the cache file and the fingerprint hold them: little endian on every machine. */
export function int32Bytes(values: ArrayLike<number>): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  for (let i = 0; i < values.length; i++) view.setInt32(i * 4, values[i] ?? 0, true);
  return new Uint8Array(view.buffer);
}

export function requireIndex(index: number, count: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= count)
    throw new InvalidArgumentError(`there is no image ${index}: the set has ${count}, numbered from 0`);
}
