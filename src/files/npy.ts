import { DatasetError } from '../errors.ts';
import { bytesOfLatin1, latin1OfBytes } from './bytes.ts';
import { kindNote } from './known-files.ts';
import { readWholeFile } from './regular-file.ts';

const MAGIC = '\x93NUMPY';
const MAX_HEADER_BYTES = 65_536;
const MAX_FILE_BYTES = 2 ** 32;
const MAX_COLUMNS = 8192;

type ReadValue = (view: DataView, offset: number, littleEndian: boolean) => number;

/** NumPy's type codes of real numbers, with their sizes. */
const TYPES: Readonly<Record<string, { bytes: number; read: ReadValue }>> = {
  f4: { bytes: 4, read: (view, offset, little) => view.getFloat32(offset, little) },
  f8: { bytes: 8, read: (view, offset, little) => view.getFloat64(offset, little) },
  i1: { bytes: 1, read: (view, offset) => view.getInt8(offset) },
  i2: { bytes: 2, read: (view, offset, little) => view.getInt16(offset, little) },
  i4: { bytes: 4, read: (view, offset, little) => view.getInt32(offset, little) },
  i8: { bytes: 8, read: (view, offset, little) => Number(view.getBigInt64(offset, little)) },
  u1: { bytes: 1, read: (view, offset) => view.getUint8(offset) },
  u2: { bytes: 2, read: (view, offset, little) => view.getUint16(offset, little) },
  u4: { bytes: 4, read: (view, offset, little) => view.getUint32(offset, little) },
  u8: { bytes: 8, read: (view, offset, little) => Number(view.getBigUint64(offset, little)) },
};

/** An array as float64, row-major. */
interface NpyArray {
  readonly data: Float64Array;
  /** Of at most two axes; that of a single number is []. */
  readonly shape: readonly number[];
}

/** An array of shape (n, dims), row-major, as float64; one of shape (n,) has `dims` 1. */
export interface NpyRows {
  readonly data: Float64Array;
  readonly dims: number;
}

interface NpyHeader {
  readonly type: { bytes: number; read: ReadValue };
  readonly littleEndian: boolean;
  readonly fortranOrder: boolean;
  readonly shape: readonly number[];
  readonly dataOffset: number;
}

/**
 * Reads a NumPy file of shape (n, d), or (n,) for d = 1: floats or integers of either byte order and either memory
 * order, format versions 1 to 3. Objects (pickles) are refused.
 *
 * @throws {DatasetError} when the file is missing, truncated, malformed, of another shape or type, or not finite.
 */
export async function readNpyRows(path: string): Promise<NpyRows> {
  return parseNpyRows(await readWholeFile(path, MAX_FILE_BYTES, DatasetError), path);
}

/** {@link readNpyRows} of bytes in memory; `where` names them in errors. */
export function parseNpyRows(bytes: Uint8Array, where: string): NpyRows {
  const { data, shape } = parseNpyArray(bytes, where);
  if (shape.length === 0)
    throw new DatasetError(`${where}: the shape is (), a single number, but points are (n, d) or (n,)`);
  return { data, dims: shape[1] ?? 1 };
}

/**
 * Reads an array of at most two axes from bytes in memory; `where` names them in errors. As `readNpyRows`, but a single
 * number may have the shape ().
 *
 * @throws {DatasetError} as `readNpyRows`.
 */
export function parseNpyArray(bytes: Uint8Array, where: string): NpyArray {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { type, littleEndian, fortranOrder, shape, dataOffset } = parseHeader(bytes, view, where);
  const [count = 1, dims = 1] = shape;
  const expected = dataOffset + count * dims * type.bytes;
  if (bytes.length !== expected)
    throw new DatasetError(
      `${where} has ${bytes.length} bytes, but a shape of (${shape.join(', ')}) needs ${expected}: the file is damaged`,
    );
  const data = new Float64Array(count * dims);
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < dims; column++) {
      const position = fortranOrder ? column * count + row : row * dims + column;
      const value = type.read(view, dataOffset + position * type.bytes, littleEndian);
      if (!Number.isFinite(Math.fround(value)))
        throw new DatasetError(`${where}, row ${row}, column ${column}: ${value} is not a finite float32`);
      data[row * dims + column] = value;
    }
  }
  return { data, shape };
}

/**
 * A NumPy file of float32 or float64 values, row-major: format version 1, the header padded so that the data begins at
 * a multiple of 64 bytes.
 */
export function npyBytes(values: Float32Array | Float64Array, shape: readonly number[]): Uint8Array {
  const width = values.BYTES_PER_ELEMENT;
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = `{'descr': '<f${width}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const header = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`;
  const start = 10 + header.length;
  const bytes = new Uint8Array(start + values.length * width);
  bytes.set(bytesOfLatin1(`${MAGIC}\x01\x00`));
  const view = new DataView(bytes.buffer);
  view.setUint16(8, header.length, true);
  bytes.set(bytesOfLatin1(header), 10);
  const write = width === 4 ? view.setFloat32 : view.setFloat64;
  values.forEach((value, i) => {
    write.call(view, start + width * i, value, true);
  });
  return bytes;
}

function parseHeader(bytes: Uint8Array, view: DataView, where: string): NpyHeader {
  const refuse = (what: string): never => {
    throw new DatasetError(`${where}: ${what}`);
  };
  if (bytes.length < 12 || latin1OfBytes(bytes.subarray(0, 6)) !== MAGIC)
    return refuse(`not a NumPy file${kindNote(bytes)}`);
  const version = view.getUint8(6);
  if (version < 1 || version > 3) return refuse(`NumPy format version ${version} is not known`);
  const start = version === 1 ? 10 : 12;
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > MAX_HEADER_BYTES || start + length > bytes.length)
    return refuse(`the header says it has ${length} bytes, more than there are`);
  const header = latin1OfBytes(bytes.subarray(start, start + length));

  const entry = (key: string, value: string) =>
    new RegExp(`['"]${key}['"]\\s*:\\s*${value}\\s*[,}]`).exec(header)?.slice(1);
  const descr = entry('descr', `['"]([<>|=])(\\w+)['"]`);
  const order = entry('fortran_order', '(True|False)');
  // Python 2 writes its long integers as 3L.
  const sizes = entry('shape', '\\(([\\dL, ]*)\\)');
  if (!/^\{[^{}]*\}\s*$/.test(header) || !descr || !order || !sizes)
    return refuse(`the header is not that of a plain array of numbers: ${JSON.stringify(header.slice(0, 120))}`);
  const [byteOrder, code = ''] = descr;
  const type = TYPES[code];
  if (!type) return refuse(`the type '${code}' is not supported: use float32, float64 or integers`);
  const [shapeText = ''] = sizes;
  const shape = shapeText
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => Number(part.replace(/L$/, '')));
  const [count = 1, dims = 1] = shape;
  if (shape.length > 2 || !(count >= 1) || !(dims >= 1) || dims > MAX_COLUMNS)
    return refuse(`the shape is (${shapeText}), but points are (n, d) with n >= 1 and 1 <= d <= ${MAX_COLUMNS}`);
  return {
    type,
    littleEndian: byteOrder !== '>',
    fortranOrder: order[0] === 'True',
    shape,
    dataOffset: start + length,
  };
}
