import { z } from 'zod';
import { InvalidArgumentError } from '../errors.ts';
import type { SampleSeed } from '../random/sample-streams.ts';
import type { ClassOptions } from './class-guidance.ts';
import type { StepCallback } from './reverse-process.ts';
import type { SamplingOptions } from './sampling-options.ts';

export interface ImageGenerationOptions extends SamplingOptions, ClassOptions {
  /** Images to draw, 1 or more; default 1. */
  readonly batch_size?: number | undefined;
  /** An integer >= 0, default 0, or one for each image: as for points, image i depends on the seed and i alone. */
  readonly seed?: SampleSeed | undefined;
  /** Called after every step with all images of the batch; may return `{ sample }` to go on with. */
  readonly callback_on_step_end?: StepCallback | undefined;
}

const countSchema = z
  .int()
  .min(1)
  .max(2 ** 24);

/** @throws {InvalidArgumentError} when `count` images cannot be drawn by these options. */
export function checkOptions({ seed = 0, eta = 0 }: ImageGenerationOptions, count: number): void {
  checkCount('the number of images', count);
  if (!(eta >= 0 && eta <= 1)) throw new InvalidArgumentError(`eta is ${eta}, but must be in [0, 1]`);
  if (typeof seed !== 'number' && seed.length !== count)
    throw new InvalidArgumentError(
      `seed is a list of ${seed.length}, but ${count} images were asked for: give one seed, or one for each`,
    );
}

/** @throws {InvalidArgumentError} unless `count` is an integer from 1 to 2^24. */
export function checkCount(what: string, count: number): void {
  if (!countSchema.safeParse(count).success)
    throw new InvalidArgumentError(`${what} is ${count}, but must be an integer from 1 to 2^24`);
}

/** @throws {InvalidArgumentError} for an unknown `output_type`. */
export function checkOutputType(outputType: string): void {
  if (!['image', 'tensor', 'uint8'].includes(outputType))
    throw new InvalidArgumentError(
      `output_type '${outputType}' is unknown: use 'image', 'tensor' or 'uint8'`,
    );
}
