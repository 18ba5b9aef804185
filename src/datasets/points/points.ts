import { requireArray, requireObject } from '../../arguments.ts';
import { DatasetError, InvalidArgumentError } from '../../errors.ts';
import { checkColumns } from './columns.ts';

/**
 * Points as rows of one array. `loadPoints` reads or draws a set, `pointsFromArray` makes one of numbers in memory.
 */
export interface PointSet {
  /** Row-major, `count` x `dims`, scaled. */
  readonly data: Float32Array;
  /** Points, at least 1. */
  readonly count: number;
  /** Numbers in a point, at least 1. */
  readonly dims: number;
  /** What logs and errors call the set. */
  readonly name: string;
  /** `owner/name` of a data set of the Hub. Default: none. */
  readonly hubId?: string | undefined;
  /** One name a dimension, for the axes of plots and the first line of generated files. Default: none. */
  readonly columns?: readonly string[] | undefined;
  /** How the raw points were scaled; generated ones are scaled back with it. */
  readonly scaler: Scaler;
}

/** Points as they were read or drawn, before scaling: rows of `dims` values. */
export interface RawPoints {
  readonly data: Float64Array;
  readonly dims: number;
  readonly columns?: readonly string[] | undefined;
}

export const SCALINGS = ['min-max', 'standardise', 'none'] as const;
/** How each axis of points is scaled: 'min-max' to [-1, 1], 'standardise' to mean 0 and deviation 1, or 'none'. */
export type Scaling = (typeof SCALINGS)[number];

/** How {@link pointsFromArray} makes a set. */
export interface PointArrayOptions {
  /** What logs and errors call the set; default 'points'. */
  readonly name?: string | undefined;
  /** 'min-max' scales each axis to [-1, 1] (default), 'standardise' to mean 0 and standard deviation 1; or 'none'. */
  readonly scaling?: Scaling | undefined;
  /** One name a dimension, for the axes of plots and the first line of generated files; default none. */
  readonly columns?: readonly string[] | undefined;
}

/**
 * A set of points that are in memory already.
 *
 * @param data the numbers, row-major [count, dims], not scaled. They are copied.
 * @param dims numbers in a point, at least 1.
 * @throws {InvalidArgumentError} when `dims`, the scaling or a name of a column is wrong.
 * @throws {DatasetError} when there is no point, a part of one is missing, or a number is not a finite float32.
 * @example
 * const ring = Float32Array.from({ length: 200 }, (_, i) => (i % 2 ? Math.sin(i >> 1) : Math.cos(i >> 1)));
 * const set = pointsFromArray(ring, 2, { name: 'ring' });
 */
export function pointsFromArray(data: ArrayLike<number>, dims: number, options: PointArrayOptions = {}): PointSet {
  requireArray('the points', data);
  requireObject('the options of pointsFromArray', options);
  const { name = 'points', scaling = 'min-max', columns } = options;
  if (!Number.isInteger(dims) || dims < 1)
    throw new InvalidArgumentError(
      `the points of '${name}' have ${dims} dimensions: dims must be a whole number of at least 1`,
    );
  if (!SCALINGS.includes(scaling))
    throw new InvalidArgumentError(`scaling is '${scaling}', but must be one of ${SCALINGS.join(', ')}`);
  if (columns) checkColumns(columns, dims, `the points of '${name}'`);
  const raw = data instanceof Float64Array ? data : Float64Array.from(data);
  if (raw.length === 0 || raw.length % dims !== 0)
    throw new DatasetError(`'${name}' has ${raw.length} numbers, not one or more whole points of ${dims}`);
  const wrong = raw.findIndex((value) => !Number.isFinite(Math.fround(value)));
  if (wrong >= 0)
    throw new DatasetError(
      `'${name}', point ${Math.floor(wrong / dims)}, axis ${wrong % dims}: ${raw[wrong]} is not a finite float32`,
    );
  const scaler = fitScaler(scaling, raw, dims);
  const set = { data: applyScaler(scaler, raw, dims), count: raw.length / dims, dims, name, scaler };
  return columns ? { ...set, columns: [...columns] } : set;
}

/** scaled = (raw - offset) * scale, axis by axis. Plain JSON. */
export interface Scaler {
  /** How it was fitted. */
  readonly kind: Scaling;
  /** One number an axis, in the units of the raw points. */
  readonly offset: readonly number[];
  /** One number an axis. */
  readonly scale: readonly number[];
}

/**
 * The scaler that brings each axis of `data` to [-1, 1] ('min-max'), to mean 0 and standard deviation 1 ('standardise'),
 * or leaves it ('none'). An axis without spread is mapped to 0.
 */
export function fitScaler(kind: Scaling, data: Float64Array | Float32Array, dims: number): Scaler {
  requireArray('the points', data);
  const axes = Array.from({ length: dims }, (_, axis) => fitAxis(kind, data, dims, axis));
  return { kind, offset: axes.map(({ offset }) => offset), scale: axes.map(({ scale }) => scale) };
}

function fitAxis(
  kind: Scaling,
  data: Float64Array | Float32Array,
  dims: number,
  axis: number,
): { offset: number; scale: number } {
  if (kind === 'none') return { offset: 0, scale: 1 };
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  let sum = 0;
  const count = data.length / dims;
  for (let i = axis; i < data.length; i += dims) {
    const value = data[i] as number;
    low = Math.min(low, value);
    high = Math.max(high, value);
    sum += value;
  }
  if (low === high) return { offset: low, scale: 1 };
  if (kind === 'min-max') return { offset: low / 2 + high / 2, scale: 2 / (high - low) };
  const mean = sum / count;
  let squares = 0;
  for (let i = axis; i < data.length; i += dims) squares += ((data[i] as number) - mean) ** 2;
  return { offset: mean, scale: 1 / Math.sqrt(squares / count) };
}

/** Raw points to scaled ones. @throws {InvalidArgumentError} when the scaler is for another number of axes. */
export function applyScaler(scaler: Scaler, data: Float64Array | Float32Array, dims: number): Float32Array {
  checkAxes(scaler, data, dims);
  return Float32Array.from(
    data,
    (value, i) => (value - (scaler.offset[i % dims] as number)) * (scaler.scale[i % dims] as number),
  );
}

/** Scaled points back to raw ones. @throws {InvalidArgumentError} when the scaler is for another number of axes. */
export function invertScaler(scaler: Scaler, data: Float32Array, dims: number): Float32Array {
  checkAxes(scaler, data, dims);
  return data.map((value, i) => value / (scaler.scale[i % dims] as number) + (scaler.offset[i % dims] as number));
}

function checkAxes(scaler: Scaler, data: ArrayLike<number>, dims: number): void {
  requireObject('the scaler', scaler);
  const { offset, scale } = scaler;
  requireArray('offset of the scaler', offset);
  requireArray('scale of the scaler', scale);
  requireArray('the points', data);
  if (offset.length === dims && scale.length === dims) return;
  throw new InvalidArgumentError(`the scaler is for ${offset.length} axes, but the points have ${dims}`);
}
