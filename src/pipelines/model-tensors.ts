// Tensors in the types and ranks that a model declares: exporters write them in many ways.

import { InvalidArgumentError, OnnxFormatError } from '../errors.ts';
import { decodeFloat16, encodeFloat16 } from '../files/float-formats.ts';
import { elementCount } from '../graph/types.ts';
import { hostTensor, type RuntimeTensor } from '../runtime/session.ts';

/** An input as a model declares it. */
export interface DeclaredInput {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly (number | string)[];
}

/** Values of float32 in the dtype that the model declares. */
export function floatTensor(
  { name, dtype }: DeclaredInput,
  shape: readonly number[],
  values: Float32Array,
): RuntimeTensor {
  if (dtype === 'float32') return hostTensor('float32', shape, values);
  if (dtype === 'float16') return hostTensor('float16', shape, encodeFloat16(values));
  if (dtype === 'float64') return hostTensor('float64', shape, Float64Array.from(values));
  throw new OnnxFormatError(
    `the input '${name}' is of type ${dtype || 'unknown'}; samples are float32, float16 or float64`,
  );
}

/** An output of any float type as float32. */
export function floatValues(tensor: RuntimeTensor | undefined, name: string): Float32Array {
  const { data, type } = tensor ?? {};
  if (data instanceof Float32Array) return data;
  if (data instanceof Float64Array) return Float32Array.from(data);
  // A Uint16Array, or where JavaScript has it a Float16Array.
  if (type === 'float16' && ArrayBuffer.isView(data)) {
    const bits = new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
    return decodeFloat16(bits, new Float32Array(bits.length));
  }
  throw new OnnxFormatError(`the output '${name}' is ${type ?? 'missing'}; float32, float16 and float64 are supported`);
}

/** Open axes of timesteps that take one timestep for the whole batch: this package's exports, and optimum's. */
const BROADCASTING_AXES = new Set<number | string>(['timestep_count', 'steps']);

/**
 * Timesteps in the rank and dtype that the model declares: exporters write a scalar, one for the batch, or one for each
 * sample, as [batch] or [batch, 1], as integers or floats.
 */
export function timestepTensor(
  timesteps: readonly number[],
  count: number,
  { name, dtype, shape }: DeclaredInput,
  batchAxis: number | string | undefined,
): RuntimeTensor {
  const [length = 1] = shape;
  if (shape.length === 0 && timesteps.length > 1)
    throw new InvalidArgumentError(
      `the model takes one timestep, '${name}', and ${timesteps.length} were given: give one for all samples`,
    );
  const isOpen = typeof length === 'string' || length <= 0;
  const perSample = length === count || (isOpen && (length === batchAxis || !BROADCASTING_AXES.has(length)));
  const repeated = perSample && timesteps.length === 1 ? count : 0;
  const values = repeated > 1 ? Array<number>(repeated).fill(timesteps[0] ?? 0) : timesteps;
  const dims = [[], [values.length], [values.length, 1]][shape.length] ?? [];
  if (dtype === 'int64') return hostTensor('int64', dims, BigInt64Array.from(values, BigInt));
  if (dtype === 'int32') return hostTensor('int32', dims, Int32Array.from(values));
  if (dtype === 'float32') return hostTensor('float32', dims, Float32Array.from(values));
  if (dtype === 'float64') return hostTensor('float64', dims, Float64Array.from(values));
  if (dtype === 'float16') return hostTensor('float16', dims, encodeFloat16(Float32Array.from(values)));
  throw new OnnxFormatError(
    `the model takes timesteps of type ${dtype || 'unknown'}; int64, int32, float32, float16 and float64 are supported`,
  );
}

export function labelTensor(
  labels: readonly number[] | undefined,
  count: number,
  { dtype, shape }: DeclaredInput,
): RuntimeTensor {
  const ofOne = shape.slice(1).map(Number);
  const size = elementCount(ofOne);
  if (labels?.length !== count * size)
    throw new InvalidArgumentError(
      `the model is class-conditional: give ${count} class labels, one for each sample${size === 1 ? '' : `, of ${size} numbers`}, not ${labels ? labels.length / size : 'none'}`,
    );
  if (dtype === 'float32') return hostTensor('float32', [count, ...ofOne], Float32Array.from(labels));
  if (dtype === 'int32') return hostTensor('int32', [count], Int32Array.from(labels));
  return hostTensor('int64', [count], BigInt64Array.from(labels, BigInt));
}
