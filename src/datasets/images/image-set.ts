/**
 * Images of one size, as bytes. Every image is height x width x channels (HWC), row by row, values 0..255 in the
 * order grey, or red, green, blue, or red, green, blue, alpha.
 */
export interface ImageSet {
  readonly name: string;
  /** Images in the set, at least 1. */
  readonly count: number;
  readonly channels: 1 | 3 | 4;
  readonly height: number;
  readonly width: number;
  /** One class an image, or undefined when the source does not give a class to every image. */
  readonly labels: Int32Array | undefined;
  /** Images that could not be used, and why. */
  readonly skipped: readonly SkippedImage[];
  /**
   * The bytes of image `index`, 0 <= index < count, not to be written to. Of a set that is too large for memory
   * they are read from the cache file into one buffer: then they are valid until the next call.
   *
   * @throws {InvalidArgumentError} when there is no such image.
   * @throws {DatasetError} when the cache file can no longer be read.
   */
  pixels(index: number): Uint8Array;
  /**
   * Of a set that is cropped at random: the image before the crop, at least as high and wide as the set's. Training
   * draws a new place each time; `pixels` gives the centre. Throws, and is valid, as `pixels`.
   */
  uncropped?(index: number): SizedPixels;
  /** SHA-256 (hex) of size, labels and pixels: equal for equal sets, wherever they came from. */
  readonly fingerprint: string;
}

/** HWC bytes with their size. */
export interface SizedPixels {
  readonly pixels: Uint8Array;
  readonly height: number;
  readonly width: number;
}

export interface SkippedImage {
  /** The image's path, archive member or row. */
  readonly source: string;
  readonly reason: string;
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
