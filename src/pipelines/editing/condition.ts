// What a model is given beside its samples: a small image that it enlarges, or a mask and what it leaves.

import { createHash } from '#platform/hash';
import { fillSample } from '../../datasets/images/augment.ts';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { elementCount, sameShape } from '../../graph/types.ts';
import type { Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { type ImageInput, imagesInput, readImages } from './image-input.ts';
import { isLatents, type Latents, readLatents } from './latents.ts';

export interface ConditionOptions {
  /**
   * For a model that takes an image beside the sample, which needs it: one for all samples, or a list with one for each, in
   * the size of a sample. Or a set, as `loadImages` gives it, whose image i is for sample i. Or values in [-1, 1] as a
   * Float32Array or a Tensor [1 or count, channels, height, width], which is the way for other numbers of channels than 1, 3
   * and 4. Default: none, for models that take none.
   */
  readonly condition?: GivenCondition | undefined;
}

/** What the option `condition` takes. */
export type GivenCondition = ImageInput | readonly ImageInput[] | ImageSet | Latents;

const conditionOption = z.custom<GivenCondition>(
  (value) => imagesInput.safeParse(value).success || isLatents(value) || isImageSet(value),
  'must be a RawImage, the path or URL of an image file, a Blob, or a list of them; a set of images; or a Float32Array or a Tensor of float32',
);

/** Whether a condition is a set of images. */
export function isImageSet(value: unknown): value is ImageSet {
  return typeof value === 'object' && value !== null && 'pixels' in value && 'fingerprint' in value;
}

/** The condition of all samples of a call. */
export interface Condition {
  /** The condition of samples first .. first + count - 1, [count, ...shape]. */
  rows(first: number, count: number): Float32Array;
  /** SHA-256 in hex of all of it. */
  readonly sha256: string;
}

/** The types alone. */
export const conditionOptionShape = { condition: z.optional(conditionOption) } satisfies Fields<ConditionOptions>;

/**
 * Checks the condition of a call for `count` samples at once; what is returned reads images.
 *
 * @param shape of the condition of a sample; undefined for a model that takes none.
 * @throws {InvalidArgumentError} when it is missing, wrong, or not asked for; when reading, if an image cannot be read or has
 * another size.
 */
export function readCondition(
  { condition }: ConditionOptions,
  count: number,
  shape: readonly number[] | undefined,
): ((signal: AbortSignal | undefined) => Promise<Condition>) | undefined {
  if (!shape) {
    if (condition === undefined) return undefined;
    throw new InvalidArgumentError(
      'condition needs a model that takes an image beside the sample, and this one does not',
    );
  }
  if (condition === undefined)
    throw new InvalidArgumentError(
      `the model takes an image of ${shape[0]} channels, ${shape.slice(1).join('x')} (height x width), beside the sample: give condition`,
    );
  if (isImageSet(condition)) {
    const ofSet = conditionOfSet(condition, count, shape);
    return async () => ofSet;
  }
  if (isLatents(condition)) {
    const given = 'dims' in condition ? elementCount(condition.dims) : condition.length;
    const values = readLatents(condition, given === elementCount(shape) ? 1 : count, shape, 'condition');
    return async () => conditionOfValues(values, shape);
  }
  const images = readImages(condition, shape, 'condition');
  if (images.count !== 1 && images.count !== count)
    throw new InvalidArgumentError(
      `condition is a list of ${images.count}, but ${count} images were asked for: give one, or one for each`,
    );
  return async (signal) => conditionOfValues(await images.read(signal), shape);
}

/** @param values for one sample, or for each. */
function conditionOfValues(values: Float32Array, shape: readonly number[]): Condition {
  const size = elementCount(shape);
  return {
    sha256: createHash('sha256').update(values).digest('hex'),
    rows: (first, count) => {
      const rows = new Float32Array(count * size);
      for (let i = 0; i < count; i++) {
        const row = values.length === size ? 0 : first + i;
        rows.set(values.subarray(row * size, (row + 1) * size), i * size);
      }
      return rows;
    },
  };
}

function conditionOfSet(set: ImageSet, samples: number, shape: readonly number[]): Condition {
  const { name, channels, height, width, fingerprint } = set;
  if (!sameShape([channels, height, width], shape))
    throw new InvalidArgumentError(
      `condition '${name}' has images of [${channels}, ${height}, ${width}], but the model takes [${shape.join(', ')}]: load them in that size`,
    );
  if (set.count !== 1 && set.count < samples)
    throw new InvalidArgumentError(
      `condition '${name}' has ${set.count} images, but ${samples} images were asked for: give one for each`,
    );
  const size = elementCount(shape);
  return {
    sha256: fingerprint,
    rows: (first, count) => {
      const rows = new Float32Array(count * size);
      for (let i = 0; i < count; i++)
        fillSample(rows, i * size, set.pixels(set.count === 1 ? 0 : first + i), { channels, height, width });
      return rows;
    },
  };
}
