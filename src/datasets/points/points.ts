import { InvalidArgumentError } from '../../errors.ts';

/** Points as rows of one array. */
export interface PointSet {
  /** Row-major, `count` x `dims`, scaled. */
  readonly data: Float32Array;
  readonly count: number;
  readonly dims: number;
  readonly name: string;
  /** How the raw points were scaled, so that generated ones can be scaled back. */
  readonly scaler: Scaler;
}

/** Points as they were read or drawn, before scaling: rows of `dims` values. */
export interface RawPoints {
  readonly data: Float64Array;
  readonly dims: number;
}

export const SCALINGS = ['min-max', 'standardise', 'none'] as const;
export type Scaling = (typeof SCALINGS)[number];

/** scaled = (raw - offset) * scale, axis by axis. Plain JSON. */
export interface Scaler {
  readonly kind: Scaling;
  readonly offset: readonly number[];
  readonly scale: readonly number[];
}

/**
 * The scaler that brings each axis of `data` to [-1, 1] ('min-max'), to mean 0 and standard deviation 1 ('standardise'),
 * or leaves it ('none'). An axis without spread is mapped to 0.
 */
export function fitScaler(kind: Scaling, data: Float64Array | Float32Array, dims: number): Scaler {
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
  checkAxes(scaler, dims);
  return Float32Array.from(
    data,
    (value, i) => (value - (scaler.offset[i % dims] as number)) * (scaler.scale[i % dims] as number),
  );
}

/** Scaled points back to raw ones. @throws {InvalidArgumentError} when the scaler is for another number of axes. */
export function invertScaler(scaler: Scaler, data: Float32Array, dims: number): Float32Array {
  checkAxes(scaler, dims);
  return data.map(
    (value, i) => value / (scaler.scale[i % dims] as number) + (scaler.offset[i % dims] as number),
  );
}

function checkAxes({ offset, scale }: Scaler, dims: number): void {
  if (offset.length === dims && scale.length === dims) return;
  throw new InvalidArgumentError(`the scaler is for ${offset.length} axes, but the points have ${dims}`);
}
