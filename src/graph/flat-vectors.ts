import { GraphError } from '../errors.ts';
import type { Value } from './graph.ts';
import { concat, reshape, slice } from './ops/index.ts';
import { elementCount } from './types.ts';

export interface FlatEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly length: number;
}

/** Tensors that lie one after another in one vector. */
export interface FlatBucket {
  readonly entries: readonly FlatEntry[];
  readonly length: number;
}

/**
 * Lays named tensors out in as few flat vectors as possible: the optimizer then has a dozen nodes for each vector, not
 * for each tensor.
 *
 * @param maxElements the longest vector a device can hold in one buffer; default: one vector for all.
 * @throws {GraphError} when one tensor alone is longer.
 */
export function planFlatBuckets(
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
  maxElements = Number.POSITIVE_INFINITY,
): FlatBucket[] {
  const buckets: { entries: FlatEntry[]; length: number }[] = [];
  for (const { name, shape } of tensors) {
    const length = elementCount(shape);
    if (length > maxElements)
      throw new GraphError(`'${name}' has ${length} elements, but one buffer can hold ${maxElements}`);
    let bucket = buckets.at(-1);
    if (!bucket || bucket.length + length > maxElements) {
      bucket = { entries: [], length: 0 };
      buckets.push(bucket);
    }
    bucket.entries.push({ name, shape, length });
    bucket.length += length;
  }
  return buckets;
}

/**
 * The tensors of a bucket as values cut from its vector: by one Slice each, because WebGPU binds so few buffers to a
 * kernel (8 are guaranteed) that a Split into all tensors fails.
 */
export function unflatten(vector: Value, bucket: FlatBucket): Map<string, Value> {
  let offset = 0;
  return new Map(
    bucket.entries.map(({ name, shape, length }) => {
      const start = offset;
      offset += length;
      const piece = bucket.entries.length === 1 ? vector : slice(vector, start, offset, 0);
      return [name, reshape(piece, shape)];
    }),
  );
}

/** The vector of a bucket from one value for each of its tensors. @throws {GraphError} when one is missing. */
export function flatten(values: ReadonlyMap<string, Value>, bucket: FlatBucket): Value {
  const pieces = bucket.entries.map(({ name, length }) => {
    const value = values.get(name);
    if (!value) throw new GraphError(`no value was given for '${name}'`);
    return reshape(value, [length]);
  });
  return concat(pieces, 0);
}

/** The vector of a bucket on the host. @throws {GraphError} when a tensor is missing or of another length. */
export function packBucket(
  tensors: ReadonlyMap<string, Float32Array>,
  bucket: FlatBucket,
): Float32Array<ArrayBuffer> {
  const vector = new Float32Array(bucket.length);
  let offset = 0;
  for (const { name, length } of bucket.entries) {
    const tensor = tensors.get(name);
    if (tensor?.length !== length) {
      throw new GraphError(
        `'${name}' should have ${length} elements, but ${tensor ? `has ${tensor.length}` : 'is missing'}`,
      );
    }
    vector.set(tensor, offset);
    offset += length;
  }
  return vector;
}

/** The tensors of a bucket on the host, as views of its vector. */
export function viewBucket(vector: Float32Array, bucket: FlatBucket): Map<string, Float32Array> {
  const tensors = new Map<string, Float32Array>();
  let offset = 0;
  for (const { name, length } of bucket.entries) {
    tensors.set(name, vector.subarray(offset, offset + length));
    offset += length;
  }
  return tensors;
}

/** Copies of the tensors of a bucket on the host. */
export function unpackBucket(vector: Float32Array, bucket: FlatBucket): Map<string, Float32Array> {
  return new Map([...viewBucket(vector, bucket)].map(([name, view]) => [name, view.slice()]));
}
