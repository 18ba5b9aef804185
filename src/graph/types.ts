import { GraphError } from '../errors.ts';
import { encodeFloat16 } from '../files/float-formats.ts';

/** Element types a graph value can have, by their ONNX names in lower case. */
export type DType = 'float32' | 'float64' | 'float16' | 'int64' | 'int32' | 'uint8' | 'bool';

/** TensorProto.DataType of each dtype, as ONNX files have it. */
export const ONNX_DATA_TYPE: Readonly<Record<DType, number>> = {
  float32: 1,
  uint8: 2,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
};

/** Undefined for a data type of ONNX that no `DType` stands for. */
export function dtypeFromOnnx(dataType: number | undefined): DType | undefined {
  return (Object.keys(ONNX_DATA_TYPE) as DType[]).find((dtype) => ONNX_DATA_TYPE[dtype] === dataType);
}

/** One axis: a fixed length, or the name of a length that is known only when the graph runs. */
export type Dim = number | string;
/** The axes of a tensor; none for a scalar. */
export type Shape = readonly Dim[];

/** What is known of a tensor before the graph runs. */
export interface TensorType {
  /** The element type. */
  readonly dtype: DType;
  /** The axes, the last one contiguous in memory. */
  readonly shape: Shape;
}

/** The typed arrays that hold each `DType`. */
const arrayConstructors = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  uint8: Uint8Array,
  bool: Uint8Array,
} as const;

/** The elements of a tensor, row-major, in the typed array of its dtype: float16 as bits, bool as bytes 0 and 1. */
export type TensorData = Float32Array | Float64Array | Uint16Array | BigInt64Array | Int32Array | Uint8Array;

/** A zero-filled array of the right kind. */
export function allocate(dtype: DType, length: number): TensorData {
  return new arrayConstructors[dtype](length);
}

/** Views raw little-endian bytes as the typed array of `dtype`, copying only where the bytes are unaligned. */
export function arrayFromBytes(dtype: DType, bytes: Uint8Array): TensorData {
  const Constructor = arrayConstructors[dtype];
  const aligned = bytes.byteOffset % Constructor.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new Constructor(
    aligned.buffer as ArrayBuffer,
    aligned.byteOffset,
    aligned.byteLength / Constructor.BYTES_PER_ELEMENT,
  );
}

/** Bytes of one element. */
export function bytesPerElement(dtype: DType): number {
  return arrayConstructors[dtype].BYTES_PER_ELEMENT;
}

/** 'Float32Array'. Unlike `instanceof` it knows arrays of another realm, such as those of another test of Jest. */
function kindOf(data: TensorData | undefined): string | undefined {
  return data?.[Symbol.toStringTag];
}

/** Whether `data` is the kind of array that holds `dtype`. */
export function holds(dtype: DType, data: TensorData): boolean {
  return kindOf(data) === arrayConstructors[dtype].name;
}

/** Converts plain numbers to the array of `dtype`; in float16 they are rounded to the nearest. */
export function toTensorData(dtype: DType, values: ArrayLike<number>): TensorData {
  if (dtype === 'int64') return BigInt64Array.from(Array.from(values, BigInt));
  if (dtype === 'float16') return encodeFloat16(Float32Array.from(values));
  return arrayConstructors[dtype].from(values);
}

export function isFloat(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float64' || dtype === 'float16';
}

/** The number of elements, or an error where an axis is symbolic. */
export function elementCount(shape: Shape): number {
  return fixedShape(shape).reduce((product, dim) => product * dim, 1);
}

/** `shape` as numbers. @throws {GraphError} where an axis is symbolic. */
export function fixedShape(shape: Shape): number[] {
  return shape.map((dim) => {
    if (typeof dim === 'number') return dim;
    throw new GraphError(`the length of axis '${dim}' of ${formatShape(shape)} must be known here, but is symbolic`);
  });
}

export function formatShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}

/** As an error shows a tensor: `float32 [2, 3]`. */
export function formatType({ dtype, shape }: TensorType): string {
  return `${dtype} ${formatShape(shape)}`;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

/** The axis as an index from 0. @throws {GraphError} where it is out of range. */
export function normalizeAxis(axis: number, rank: number, where: string): number {
  const normalized = axis < 0 ? axis + rank : axis;
  if (Number.isInteger(axis) && normalized >= 0 && normalized < rank) return normalized;
  throw new GraphError(`${where}: axis ${axis} is out of range for a tensor of rank ${rank}`);
}

/** The shape two shapes broadcast to by NumPy's rules. @throws {GraphError} where they do not. */
export function broadcastShapes(a: Shape, b: Shape, where: string): Dim[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const left = a[axis - rank + a.length] ?? 1;
    const right = b[axis - rank + b.length] ?? 1;
    if (left === right || right === 1) return left;
    if (left === 1) return right;
    throw new GraphError(`${where}: shapes ${formatShape(a)} and ${formatShape(b)} do not broadcast`);
  });
}

/** The arrays one after another; a single one as it is, without a copy. */
export function concatenated<T extends Float32Array | Int32Array | Uint8Array>(parts: readonly T[]): T {
  const [first] = parts;
  if (first && parts.length === 1) return first;
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const kind = kindOf(first);
  const Kind = kind === 'Int32Array' ? Int32Array : kind === 'Uint8Array' ? Uint8Array : Float32Array;
  const whole = new Kind(length) as T;
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
