import { InvalidArgumentError } from '../../errors.ts';
import { checkImages, type FeatureImage } from './feature-extractor.ts';

/** A model that turns a batch of images into one vector each. */
export interface FeatureModel {
  /** @returns `data` row-major, images.length x dims. */
  run(images: readonly FeatureImage[]): Promise<{ data: Float32Array; dims: number }>;
}

/** @throws {InvalidArgumentError} unless it is an integer of at least 1. */
export function checkBatchSize(batch_size: number): void {
  if (!Number.isInteger(batch_size) || batch_size < 1)
    throw new InvalidArgumentError(`batch_size is ${batch_size}; it must be an integer of at least 1.`);
}

/** `FeatureExtractor.extract`, `batchSize` images at a time. */
export async function extractInBatches(
  model: FeatureModel,
  images: readonly FeatureImage[],
  dims: number,
  batchSize: number,
): Promise<Float32Array> {
  checkImages(images);
  const features = new Float32Array(images.length * dims);
  for (let start = 0; start < images.length; start += batchSize) {
    const { data } = await model.run(images.slice(start, start + batchSize));
    features.set(data, start * dims);
  }
  return features;
}

/** The d of a shape (n, d, 1, ...). @throws {InvalidArgumentError} for any other shape. */
export function vectorLength(shape: readonly number[], count: number, what: string): number {
  const [n, dims, ...rest] = shape;
  if (n === count && dims !== undefined && dims >= 1 && rest.every((length) => length === 1)) return dims;
  throw new InvalidArgumentError(
    `${what} has the shape (${shape.join(', ')}) for ${count} images; features need (${count}, dims). Choose an output after the pooling.`,
  );
}
