import { DTYPE_ARRAYS, type NamedTensor, type TensorArray } from '../safetensors.ts';

/*
 * Tensors of PyTorch: a view, by offset and strides in elements, of a storage that several tensors may share.
 */

/** The element types of safetensors, and complex numbers, which are held as pairs of real and imaginary parts. */
export type TorchDtype = NamedTensor['dtype'] | 'C64' | 'C128';

/** torch's storage classes. Those of GPUs have the same names in `torch.cuda`. */
export const STORAGE_DTYPES: Readonly<Record<string, TorchDtype>> = {
  FloatStorage: 'F32',
  DoubleStorage: 'F64',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  ByteStorage: 'U8',
  CharStorage: 'I8',
  ShortStorage: 'I16',
  IntStorage: 'I32',
  LongStorage: 'I64',
  BoolStorage: 'BOOL',
  ComplexFloatStorage: 'C64',
  ComplexDoubleStorage: 'C128',
};

/** The types without a storage class of their own, which torch 2.3 and later name as `torch.uint16`. */
export const NAMED_DTYPES: Readonly<Record<string, TorchDtype>> = {
  uint16: 'U16',
  uint32: 'U32',
  uint64: 'U64',
  float8_e4m3fn: 'F8_E4M3',
  float8_e5m2: 'F8_E5M2',
};

/** The array that holds a type, and how many of its elements make a value. */
function layoutOf(dtype: TorchDtype) {
  if (dtype === 'C64') return { array: Float32Array, parts: 2 };
  if (dtype === 'C128') return { array: Float64Array, parts: 2 };
  return { array: DTYPE_ARRAYS[dtype], parts: 1 };
}

/** Bytes of one value. */
export function dtypeBytes(dtype: TorchDtype): number {
  const { array, parts } = layoutOf(dtype);
  return array.BYTES_PER_ELEMENT * parts;
}

/** The memory of tensors. Its bytes are known once the whole file is read. */
export class TorchStorage {
  /** In a buffer of their own. */
  bytes: Uint8Array<ArrayBuffer> | undefined;

  constructor(
    readonly key: string,
    /** Undefined for bytes without a type. */
    readonly dtype: TorchDtype | undefined,
    /** In elements; in bytes for one without a type. */
    readonly count: number,
  ) {}

  get byteLength(): number {
    return this.count * (this.dtype ? dtypeBytes(this.dtype) : 1);
  }
}

const MAX_AXES = 64;
/** A tensor may repeat the elements of its storage, as `expand` makes them, up to this many. */
const MAX_REPEATED = 2 ** 24;

/** A tensor of a file. It is checked against its storage when it is made. */
export class TorchTensor {
  private readonly length: number;

  /**
   * @param offset of the first element in the storage, in elements.
   * @param strides between neighbours along each axis, in elements.
   * @throws {Error} when it does not lie in its storage.
   */
  constructor(
    private readonly storage: TorchStorage,
    readonly dtype: TorchDtype,
    private readonly offset: number,
    readonly shape: readonly number[],
    private readonly strides: readonly number[],
  ) {
    const count = Math.floor(storage.byteLength / dtypeBytes(dtype));
    const sizes = [offset, ...shape, ...strides];
    if (shape.length !== strides.length || shape.length > MAX_AXES || !sizes.every(isSize))
      throw new Error(`a tensor has the shape [${shape}], the strides [${strides}] and the offset ${offset}`);
    this.length = shape.reduce((product, side) => product * side, 1);
    const last = shape.reduce((at, side, axis) => at + (side - 1) * (strides[axis] as number), offset);
    if (this.length > 0 ? last >= count : offset > count)
      throw new Error(
        `a tensor with the shape [${shape}], the strides [${strides}] and the offset ${offset} does not lie in its storage of ${count} elements`,
      );
    if (this.length > Math.max(count, MAX_REPEATED))
      throw new Error(`a tensor with the shape [${shape}] repeats the ${count} elements of its storage too often`);
  }

  /**
   * The elements, row-major: a view of the storage where they lie there so, else a copy. Complex numbers are pairs.
   * float16, bfloat16 and float8 are raw bits, as in safetensors.
   */
  read(): TensorArray {
    const { array: ArrayOf, parts } = layoutOf(this.dtype);
    const width = dtypeBytes(this.dtype);
    const { bytes = new Uint8Array(0) } = this.storage;
    if (this.length === 0) return new ArrayOf(0);
    if (this.isRowMajor()) return new ArrayOf(bytes.buffer, this.offset * width, this.length * parts);
    // Bits are moved, not numbers: a NaN keeps its bits.
    const Words = width >= 4 ? Uint32Array : width === 2 ? Uint16Array : Uint8Array;
    const perElement = width / Words.BYTES_PER_ELEMENT;
    const source = new Words(bytes.buffer, 0, Math.floor(bytes.length / Words.BYTES_PER_ELEMENT));
    const target = new Words(this.length * perElement);
    copyStrided(source, target, this.offset, this.shape, this.strides, perElement);
    return new ArrayOf(target.buffer);
  }

  private isRowMajor(): boolean {
    let expected = 1;
    for (let axis = this.shape.length - 1; axis >= 0; axis--) {
      const side = this.shape[axis] as number;
      if (side !== 1 && this.strides[axis] !== expected) return false;
      expected *= side;
    }
    return true;
  }
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

type Words = Uint8Array | Uint16Array | Uint32Array;

/** Elements of `perElement` words each, from where the strides put them to row-major order. */
function copyStrided(
  source: Words,
  target: Words,
  offset: number,
  shape: readonly number[],
  strides: readonly number[],
  perElement: number,
): void {
  const index = shape.map(() => 0);
  let from = offset;
  for (let to = 0; to < target.length; to += perElement) {
    for (let word = 0; word < perElement; word++) target[to + word] = source[from * perElement + word] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const stride = strides[axis] as number;
      from += stride;
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      from -= stride * (shape[axis] as number);
      index[axis] = 0;
    }
  }
}
