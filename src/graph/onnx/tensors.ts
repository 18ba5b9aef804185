import { OnnxFormatError } from '../../errors.ts';
import { decodeFloat16 } from '../../files/float-formats.ts';
import {
  arrayFromBytes,
  bytesPerElement,
  type Dim,
  type DType,
  dtypeFromOnnx,
  formatShape,
  type TensorData,
  toTensorData,
} from '../types.ts';
import { type KnownTensor, tensorOf } from './lowering/operand.ts';
import type { TensorProto, ValueInfoProto } from './schema.ts';

const MAX_ELEMENTS = 2 ** 31;
const MAX_RANK = 16;

/** The bytes of tensors that lie in other files, by the tensor's name. */
export type ExternalBytes = ReadonlyMap<string, Uint8Array>;

/**
 * A tensor of an ONNX file. float16 is read as float32, in which everything here is computed.
 *
 * @throws {OnnxFormatError} when the tensor contradicts itself, or lies in another file that `external` does not hold.
 */
export function readTensor(proto: TensorProto, where: string, external?: ExternalBytes): KnownTensor {
  const { dtype, shape, count } = tensorHeader(proto, where);
  const raw = proto.dataLocation === 1 ? external?.get(proto.name ?? '') : proto.rawData;
  if (proto.dataLocation === 1 && !raw)
    throw new OnnxFormatError(
      `${where} keeps its data in another file: load the model from its file, beside which the data lies, not from bytes`,
    );
  const data = raw ? readRawData(dtype, raw, count, where) : readTypedData(dtype, proto, where);
  if (data.length !== count)
    throw new OnnxFormatError(
      `${where} of shape ${formatShape(shape)} should hold ${count} values, but holds ${data.length}`,
    );
  if (dtype === 'float16')
    return { dtype: 'float32', shape, data: decodeFloat16(data as Uint16Array, new Float32Array(data.length)) };
  return { dtype, shape, data };
}

/** What a tensor is declared to be. @throws {OnnxFormatError} when that is impossible or too large. */
export function tensorHeader(proto: TensorProto, where: string): { dtype: DType; shape: number[]; count: number } {
  const dtype = dtypeFromOnnx(proto.dataType);
  if (!dtype)
    throw new OnnxFormatError(`${where} is of data type ${proto.dataType ?? 'unknown'}, which is not supported`);
  const shape = proto.dims ?? [];
  checkRank(shape.length, where);
  return { dtype, shape, count: checkDims(shape, where) };
}

/** The declared type of an input. @throws {OnnxFormatError} when it is not a `DType`. */
export function readType(info: ValueInfoProto, name: string): { dtype: DType; shape: Dim[] } {
  const type = info.type?.tensorType;
  const dtype = dtypeFromOnnx(type?.elemType);
  if (!dtype)
    throw new OnnxFormatError(
      `the input '${name}' is of element type ${type?.elemType ?? 'unknown'}, which is not supported`,
    );
  const dims = type?.shape?.dim ?? [];
  checkRank(dims.length, `the input '${name}'`);
  const shape = dims.map(({ dimValue, dimParam }, axis) =>
    dimValue === undefined ? dimParam || `${name}_axis_${axis}` : dimValue,
  );
  checkDims(shape, `the input '${name}'`);
  return { dtype, shape };
}

function readRawData(dtype: DType, raw: Uint8Array, count: number, where: string): TensorData {
  if (raw.length !== count * bytesPerElement(dtype)) {
    throw new OnnxFormatError(`${where} should hold ${count * bytesPerElement(dtype)} bytes, but holds ${raw.length}`);
  }
  return arrayFromBytes(dtype, raw);
}

function readTypedData(dtype: DType, proto: TensorProto, where: string): TensorData {
  switch (dtype) {
    case 'float32':
      return toTensorData(dtype, proto.floatData ?? []);
    case 'float64':
      return toTensorData(dtype, proto.doubleData ?? []);
    case 'int64': {
      const values = proto.int64Data ?? [];
      // The ends of int64, which say "to the end" of an axis, are exact as numbers.
      if (!values.every((value) => Number.isSafeInteger(value) || Math.abs(value) === 2 ** 63))
        throw new OnnxFormatError(`${where} holds integers beyond 2^53`);
      return tensorOf(dtype, [values.length], values).data;
    }
    case 'float16':
      return Uint16Array.from(proto.int32Data ?? []);
    default:
      return toTensorData(dtype, proto.int32Data ?? []);
  }
}

function checkRank(rank: number, where: string): void {
  if (rank > MAX_RANK) throw new OnnxFormatError(`${where} has ${rank} axes; at most ${MAX_RANK} are read`);
}

/** The product of the known lengths. */
function checkDims(shape: readonly Dim[], where: string): number {
  let count = 1;
  for (const dim of shape) {
    if (typeof dim === 'string') continue;
    count *= dim;
    if (Number.isSafeInteger(dim) && dim >= 0 && count <= MAX_ELEMENTS) continue;
    throw new OnnxFormatError(`${where} has the shape ${formatShape(shape)}, which is impossible or too large`);
  }
  return count;
}
