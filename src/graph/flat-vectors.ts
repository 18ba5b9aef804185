import { GraphError } from '../errors.ts';
import type { Value } from './graph.ts';
import { concat, reshape, slice } from './ops/index.ts';
import { elementCount } from './types.ts';

/** What lies in one vector: named tensors, one after another. */
export interface FlatVector {
  readonly entries: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly length: number;
  }[];
  readonly length: number;
}

/**
 * Lays named tensors out in as few flat vectors as possible: the optimizer then has a dozen nodes for each vector, not
 * for each tensor.
 *
 * @param maxElements the longest vector a device can hold in one buffer; default: one vector for all.
 * @throws {GraphError} when one tensor alone is longer.
 */
export function planFlatVectors(
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
  maxElements = Number.POSITIVE_INFINITY,
): FlatVector[] {
  const vectors: { entries: FlatVector['entries'][number][]; length: number }[] = [];
  for (const { name, shape } of tensors) {
    const length = elementCount(shape);
    if (length > maxElements)
      throw new GraphError(`'${name}' has ${length} elements, but one buffer can hold ${maxElements}`);
    let vector = vectors.at(-1);
    if (!vector || vector.length + length > maxElements) {
      vector = { entries: [], length: 0 };
      vectors.push(vector);
    }
    vector.entries.push({ name, shape, length });
    vector.length += length;
  }
  return vectors;
}

/**
 * The tensors of a vector as values of their own: cut by one Slice each, because WebGPU binds so few buffers to a
 * kernel (8 are guaranteed) that a Split into all tensors fails.
 */
export function unflatten(vector: Value, { entries }: FlatVector): Map<string, Value> {
  let offset = 0;
  return new Map(
    entries.map(({ name, shape, length }) => {
      const start = offset;
      offset += length;
      const piece = entries.length === 1 ? vector : slice(vector, start, offset, 0);
      return [name, reshape(piece, shape)];
    }),
  );
}

/** The vector of one value for each of its tensors. @throws {GraphError} when one is missing. */
export function flatten(values: ReadonlyMap<string, Value>, { entries }: FlatVector): Value {
  const pieces = entries.map(({ name, length }) => {
    const value = values.get(name);
    if (!value) throw new GraphError(`no value was given for '${name}'`);
    return reshape(value, [length]);
  });
  return concat(pieces, 0);
}
