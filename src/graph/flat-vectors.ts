import { GraphError } from '../errors.ts';
import type { Value } from './graph.ts';
import { pad, slice } from './ops/indexing.ts';
import { concat, reshape } from './ops/shape.ts';
import { elementCount } from './types.ts';

/** What lies in one vector: named tensors, one after another. */
export interface FlatVector {
  readonly entries: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly length: number;
    /** Where the tensor begins. */
    readonly offset: number;
  }[];
  readonly length: number;
  /** Tensors begin at multiples of it; the gaps before them are zero. */
  readonly alignment: number;
}

export interface FlatVectorLimits {
  /** The longest vector a device can hold in one buffer; default: one vector for all. */
  readonly maxElements?: number | undefined;
  /** See `FlatVector.alignment`; default 1, without gaps. */
  readonly alignment?: number | undefined;
}

/**
 * Lays named tensors out in as few flat vectors as possible: the optimizer then has a dozen nodes for each vector, not
 * for each tensor.
 *
 * @throws {GraphError} when one tensor alone is longer than a vector may be.
 */
export function planFlatVectors(
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
  { maxElements = Number.POSITIVE_INFINITY, alignment = 1 }: FlatVectorLimits = {},
): FlatVector[] {
  const vectors: { entries: FlatVector['entries'][number][]; length: number; alignment: number }[] = [];
  for (const { name, shape } of tensors) {
    const length = elementCount(shape);
    const room = Math.ceil(length / alignment) * alignment;
    if (room > maxElements)
      throw new GraphError(`'${name}' has ${length} elements, but one buffer can hold ${maxElements}`);
    let vector = vectors.at(-1);
    if (!vector || vector.length + room > maxElements) {
      vector = { entries: [], length: 0, alignment };
      vectors.push(vector);
    }
    vector.entries.push({ name, shape, length, offset: vector.length });
    vector.length += room;
  }
  return vectors;
}

/**
 * The tensors of a vector as values of their own: cut by one Slice each, because WebGPU binds so few buffers to a
 * kernel (8 are guaranteed) that a Split into all tensors fails.
 */
export function unflatten(vector: Value, { entries }: FlatVector): Map<string, Value> {
  return new Map(
    entries.map(({ name, shape, length, offset }) => {
      const piece = slice(vector, offset, offset + length, 0);
      return [name, reshape(piece, shape)];
    }),
  );
}

/**
 * The vector of one value for each of its tensors. It is joined in rows of `alignment` elements: on cuda, onnxruntime
 * (concat.cc, 1.30) builds a table of 8 bytes for every row on the host and uploads it at every call.
 *
 * @throws {GraphError} when a value is missing.
 */
export function flatten(
  values: ReadonlyMap<string, Value>,
  { entries, length: vectorLength, alignment }: FlatVector,
): Value {
  const pieces = entries.map(({ name, length }) => {
    const value = values.get(name);
    if (!value) throw new GraphError(`no value was given for '${name}'`);
    return reshape(value, [length]);
  });
  if (alignment === 1) return concat(pieces, 0);
  const rows = pieces.map((piece, index) => {
    const gap = (alignment - ((entries[index]?.length ?? 0) % alignment)) % alignment;
    return reshape(pad(piece, [0, gap]), [-1, alignment]);
  });
  return reshape(concat(rows, 0), [vectorLength]);
}

/** The vector on the host, from its tensors one after another without gaps. */
export function withGaps(tensors: Float32Array, vector: FlatVector): Float32Array {
  if (tensors.length === vector.length) return tensors;
  const whole = new Float32Array(vector.length);
  copyEntries(vector, (start, end, offset) => whole.set(tensors.subarray(start, end), offset));
  return whole;
}

/** The tensors of a vector on the host, one after another without gaps. */
export function withoutGaps(whole: Float32Array, vector: FlatVector): Float32Array {
  const count = tensorElements(vector);
  if (count === vector.length) return whole;
  const tensors = new Float32Array(count);
  copyEntries(vector, (start, end, offset) => tensors.set(whole.subarray(offset, offset + end - start), start));
  return tensors;
}

/** The elements of all tensors of a vector. */
export function tensorElements({ entries }: FlatVector): number {
  return entries.reduce((sum, { length }) => sum + length, 0);
}

/** Calls `copy` for each tensor, with its range among the tensors without gaps and its offset in the vector. */
function copyEntries({ entries }: FlatVector, copy: (start: number, end: number, offset: number) => void): void {
  let start = 0;
  for (const { length, offset } of entries) {
    copy(start, start + length, offset);
    start += length;
  }
}
