import { GraphError } from '../../errors.ts';
import type { Value } from '../../graph/graph.ts';
import { type DType, fixedShape } from '../../graph/types.ts';
import type { TfDType, Tfjs, TfTensor } from './tf-module.ts';

const dtypes: Partial<Record<DType, TfDType>> = {
  float32: 'float32',
  int32: 'int32',
  int64: 'int32',
  uint8: 'int32',
  bool: 'bool',
};

/** The dtype in which tfjs computes an ONNX one. @throws {GraphError} for float16 and float64, which it has not. */
export function tfDType(dtype: DType, where: string): TfDType {
  const found = dtypes[dtype];
  if (found) return found;
  throw new GraphError(`${where}: tfjs has no ${dtype}`);
}

/** A constant of the graph as a tensor. @throws {GraphError} when tfjs cannot hold it. */
export function constantTensor(tf: Tfjs, { name, dtype, shape, data }: Value): TfTensor {
  const type = tfDType(dtype, `constant '${name}'`);
  if (data instanceof BigInt64Array || (type === 'int32' && data))
    return tf.tensor(
      Int32Array.from<number | bigint>(data, (value) => asInt32(value, name)),
      fixedShape(shape),
      type,
    );
  if (data instanceof Float32Array || data instanceof Uint8Array)
    return tf.tensor(data, fixedShape(shape), type);
  throw new GraphError(`constant '${name}' has no data`);
}

function asInt32(value: number | bigint, name: string): number {
  const number = Number(value);
  if (number === (number | 0)) return number;
  throw new GraphError(`constant '${name}' holds ${value}, but the integers of tfjs have 32 bits`);
}
