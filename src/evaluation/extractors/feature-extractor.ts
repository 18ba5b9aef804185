import { InvalidArgumentError } from '../../errors.ts';

/** An 8-bit image: height x width x channels, row-major, channels 1 (grey) or 3 (RGB). */
export interface FeatureImage {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/**
 * What turns images into the vectors that metrics compare. Figures of different extractors do not compare, so every
 * report names the extractor and its checksum.
 */
export interface FeatureExtractor {
  readonly name: string;
  /** SHA-256 in hex of the weights, or of the definition where there are none. */
  readonly checksum: string;
  /** Values of one feature vector. */
  readonly dims: number;
  /** @returns row-major, images.length x dims. */
  extract(images: readonly FeatureImage[]): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** @throws {InvalidArgumentError} when an image's data do not fit its shape, or it is neither grey nor RGB. */
export function checkImages(images: readonly FeatureImage[]): void {
  images.forEach(({ data, height, width, channels }, i) => {
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
