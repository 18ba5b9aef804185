// What a model is given beside its samples: a small image that it enlarges, or a mask and what it leaves.

import { InvalidArgumentError } from '../../errors.ts';
import { elementCount } from '../../graph/types.ts';
import type { Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { type ImageInput, imagesInput, readImages } from './image-input.ts';
import { isLatents, type Latents, readLatents } from './latents.ts';

export interface ConditionOptions {
  /**
   * For a model that takes an image beside the sample, which needs it: one for all samples, or a list with one for each, in
   * the size of a sample. Or its values in [-1, 1] as a Float32Array or a Tensor [1 or count, channels, height, width], which
   * is the way for other numbers of channels than 1, 3 and 4. Default: none, for models that take none.
   */
  readonly condition?: ImageInput | readonly ImageInput[] | Latents | undefined;
}

const conditionOption = z.custom<ImageInput | readonly ImageInput[] | Latents>(
  (value) => imagesInput.safeParse(value).success || isLatents(value),
  'must be a RawImage, the path or URL of an image file, a Blob, or a list of them; or a Float32Array or a Tensor of float32',
);

/** The types alone. */
export const conditionOptionShape = { condition: z.optional(conditionOption) } satisfies Fields<ConditionOptions>;

/**
 * Checks the condition of a call for `count` samples at once; what is returned reads images.
 *
 * @param shape of the condition of a sample; undefined for a model that takes none.
 * @returns values [1 or count, ...shape].
 * @throws {InvalidArgumentError} when it is missing, wrong, or not asked for; when reading, if an image cannot be read or has
 * another size.
 */
export function readCondition(
  { condition }: ConditionOptions,
  count: number,
  shape: readonly number[] | undefined,
): ((signal: AbortSignal | undefined) => Promise<Float32Array>) | undefined {
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
  if (isLatents(condition)) {
    const given = 'dims' in condition ? elementCount(condition.dims) : condition.length;
    const values = readLatents(condition, given === elementCount(shape) ? 1 : count, shape, 'condition');
    return async () => values;
  }
  const images = readImages(condition, shape, 'condition');
  if (images.count !== 1 && images.count !== count)
    throw new InvalidArgumentError(
      `condition is a list of ${images.count}, but ${count} images were asked for: give one, or one for each`,
    );
  return images.read;
}

/** The rows of a condition for samples first .. first + count - 1 of a call, [count, ...shape]. */
export function conditionOf(
  condition: Float32Array,
  first: number,
  count: number,
  shape: readonly number[],
): Float32Array {
  const size = elementCount(shape);
  const rows = new Float32Array(count * size);
  for (let i = 0; i < count; i++) {
    const row = condition.length === size ? 0 : first + i;
    rows.set(condition.subarray(row * size, (row + 1) * size), i * size);
  }
  return rows;
}
