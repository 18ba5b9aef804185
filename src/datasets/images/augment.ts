import { requireArray, requireObject } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { fillPlanes } from './image-kernels.ts';
import type { SizedPixels } from './image-set.ts';

/** The size of an image, in bytes [height, width, channels]. */
export interface ImageShape {
  /** Bytes in a pixel: 1, 3 or 4. */
  readonly channels: number;
  /** In pixels. */
  readonly height: number;
  /** In pixels. */
  readonly width: number;
}

/** Where the middle `kept` of `length` pixels begins. Halves are rounded to even, as torchvision's `CenterCrop` does. */
export function centreStart(length: number, kept: number): number {
  const below = Math.floor((length - kept) / 2);
  const isHalf = (length - kept) % 2 !== 0;
  return isHalf && below % 2 !== 0 ? below + 1 : below;
}

/** HWC bytes of the middle of an image. */
export function centerOf({ pixels, height, width }: SizedPixels, crop: ImageShape): Uint8Array {
  const top = centreStart(height, crop.height);
  const left = centreStart(width, crop.width);
  const row = crop.width * crop.channels;
  const out = new Uint8Array(crop.height * row);
  for (let y = 0; y < crop.height; y++) {
    const begin = ((top + y) * width + left) * crop.channels;
    out.set(pixels.subarray(begin, begin + row), y * row);
  }
  return out;
}

/** What is done with an image on its way to a network; the caller draws it at random. */
export interface Augmentation {
  /** Whether left and right are exchanged. */
  readonly flip: boolean;
  /** The rectangle that is kept, in pixels from the top left corner; default the whole image. */
  readonly crop?: {
    /** The first row that is kept. */
    readonly top: number;
    /** The first column that is kept. */
    readonly left: number;
    /** Rows that are kept. */
    readonly height: number;
    /** Columns that are kept. */
    readonly width: number;
  };
}

/**
 * Writes one image as a network's input: byte x becomes x / 127.5 - 1, in [-1, 1], the order HWC becomes CHW, and
 * columns are mirrored with `flip`.
 *
 * @param target receives channels x height x width values of the crop from `offset` on.
 * @param image HWC bytes of the whole image.
 * @throws {InvalidArgumentError} when the crop leaves the image or an array is too short.
 * @example
 * fillSample(batch, i * 3 * 32 * 32, set.pixels(index), set, { flip: stream.nextDouble() < 0.5 });
 */
export function fillSample(
  target: Float32Array,
  offset: number,
  image: Uint8Array,
  shape: ImageShape,
  augmentation: Augmentation = { flip: false },
): void {
  requireArray('target', target);
  requireArray('image', image);
  requireObject('the shape of the image', shape);
  requireObject('the augmentation', augmentation);
  const { channels, height: imageHeight, width: imageWidth } = shape;
  const crop = augmentation.crop ?? { top: 0, left: 0, height: imageHeight, width: imageWidth };
  const { top, left, height, width } = crop;
  const fits =
    [top, left, height, width].every(Number.isInteger) &&
    top >= 0 &&
    left >= 0 &&
    height > 0 &&
    width > 0 &&
    top + height <= imageHeight &&
    left + width <= imageWidth;
  if (!fits)
    throw new InvalidArgumentError(
      `the crop of ${height}x${width} at (${top}, ${left}) does not lie in an image of ${imageHeight}x${imageWidth}`,
    );
  if (image.length !== imageHeight * imageWidth * channels)
    throw new InvalidArgumentError(
      `the image has ${image.length} bytes, but ${imageHeight}x${imageWidth}x${channels} are ${imageHeight * imageWidth * channels}`,
    );
  if (!Number.isInteger(offset) || offset < 0 || offset + channels * height * width > target.length)
    throw new InvalidArgumentError(
      `a sample of ${channels}x${height}x${width} at ${offset} does not fit into ${target.length} values`,
    );

  const rowBytes = imageWidth * channels;
  const rows = image.subarray(top * rowBytes, (top + height) * rowBytes);
  fillPlanes(target.subarray(offset), rows, { width: imageWidth, channels }, { left, width, flip: augmentation.flip });
}
