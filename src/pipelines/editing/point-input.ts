// Points that are given to a pipeline.

import { InvalidArgumentError } from '../../errors.ts';
import type { Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { type Edit, type EditOptions, editShape, readEditSettings } from './edit.ts';

/** Numbers, row-major [count, d]. */
export type PointInput = Float32Array | Float64Array | readonly number[];

/** Options of edited points. */
export interface PointEditOptions extends EditOptions {
  /**
   * Points to begin from in place of noise: numbers, row-major [batch_size, d], or one point for all; in the units of
   * `output_type`. Default none.
   */
  readonly points?: PointInput | undefined;
  /**
   * Which coordinates of `points` are drawn anew: [d], or [batch_size, d] row-major, of 1 or true (drawn anew) and 0 or false
   * (kept). Default: all.
   */
  readonly mask?: readonly (number | boolean)[] | Uint8Array | undefined;
}

const isNumbers = (value: unknown): value is PointInput =>
  (ArrayBuffer.isView(value) && /^Float(32|64)Array$/.test(Reflect.get(value, Symbol.toStringTag))) ||
  (Array.isArray(value) && value.every((one) => typeof one === 'number'));

const isMask = (value: unknown) =>
  (ArrayBuffer.isView(value) && Reflect.get(value, Symbol.toStringTag) === 'Uint8Array') || Array.isArray(value);

export const pointEditShape = {
  ...editShape,
  points: z.optional(
    z.custom<PointInput>(isNumbers, 'must be numbers, row-major, in an array, a Float32Array or a Float64Array'),
  ),
  mask: z.optional(
    z.custom<readonly (number | boolean)[] | Uint8Array>(isMask, 'must be an array of 0 and 1, or of booleans'),
  ),
} satisfies Fields<PointEditOptions>;

/**
 * The points of a call, in model units.
 *
 * @param scale from the units of the points to those of the model.
 * @throws {InvalidArgumentError} when sizes do not fit, or a number is not finite.
 */
export function readPointEdit(
  options: PointEditOptions,
  count: number,
  dims: number,
  scale: (points: Float64Array) => Float32Array,
): Edit | undefined {
  const { points, mask } = options;
  const settings = readEditSettings(options, {
    samples: ['points', points !== undefined],
    mask: ['mask', mask !== undefined],
  });
  if (!settings || !points) return undefined;
  const samples = scale(readPoints(points, dims, count));
  if (!mask) return { ...settings, samples, mask: undefined };
  const values = Array.from(mask, Number);
  if (values.length !== dims && values.length !== count * dims)
    throw new InvalidArgumentError(
      `mask has ${values.length} values, but must have ${dims}, one for each coordinate, or ${count * dims}, one for each of all points`,
    );
  const wrong = values.findIndex((value) => value !== 0 && value !== 1);
  if (wrong >= 0)
    throw new InvalidArgumentError(`value ${wrong} of mask is ${String(mask[wrong])}, but must be 0 or 1`);
  // Points and mask are for all alike, or one for each.
  return { ...settings, samples, mask: Uint8Array.from(values) };
}

/**
 * A copy of the numbers of one point, or of `count` of them where that is known.
 *
 * @throws {InvalidArgumentError} when they are not so many, or one is not finite.
 */
export function readPoints(points: PointInput, dims: number, count?: number | undefined): Float64Array {
  const values = Float64Array.from(points);
  const given = values.length / dims;
  const fits = count === undefined ? Number.isInteger(given) && given >= 1 : given === 1 || given === count;
  if (!fits)
    throw new InvalidArgumentError(
      `points has ${values.length} numbers, not ${count === undefined ? 'one or more points' : `one point or ${count}`} of ${dims}`,
    );
  const wrong = values.findIndex((value) => !Number.isFinite(Math.fround(value)));
  if (wrong < 0) return values;
  throw new InvalidArgumentError(
    `point ${Math.floor(wrong / dims)}, axis ${wrong % dims}: ${values[wrong]} is not a finite float32`,
  );
}

/** @throws {InvalidArgumentError} unless `points` are numbers. */
export function checkPoints(points: unknown): asserts points is PointInput {
  if (!isNumbers(points))
    throw new InvalidArgumentError(
      'the points must be numbers, row-major, in an array, a Float32Array or a Float64Array',
    );
}
