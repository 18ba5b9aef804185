import { readFile, stat } from 'node:fs/promises';
import type { RawPoints } from '../datasets/points/load-points.ts';
import { DatasetError } from '../errors.ts';
import { writeFileAtomic } from './atomic-file.ts';

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

interface NpyHeader {
  readonly type: { bytes: number; read: ReadValue };
  readonly littleEndian: boolean;
  readonly fortranOrder: boolean;
  readonly count: number;
  readonly dims: number;
  readonly dataOffset: number;
}

/**
 * Reads points from a NumPy file of shape (n, d), or (n,) for d = 1: floats or integers of either byte order and
 * either memory order, format versions 1 to 3. Objects (pickles) are refused.
 *
 * @throws {DatasetError} when the file is missing, truncated, malformed, of another shape or type, or not finite.
 */
export async function readNpyPoints(path: string): Promise<RawPoints> {
  let bytes: Uint8Array;
  try {
    const { size } = await stat(path);
    if (size > MAX_FILE_BYTES)
      throw new DatasetError(`${path} has ${size} bytes; at most ${MAX_FILE_BYTES} are read`);
    bytes = await readFile(path);
  } catch (cause) {
    if (cause instanceof DatasetError) throw cause;
    throw new DatasetError(
      `${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
  return parseNpyPoints(bytes, path);
}

/** `readNpyPoints` for bytes at hand; `where` names them in errors. */
export function parseNpyPoints(bytes: Uint8Array, where: string): RawPoints {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { type, littleEndian, fortranOrder, count, dims, dataOffset } = parseHeader(bytes, view, where);
  const expected = dataOffset + count * dims * type.bytes;
  if (bytes.length !== expected) {
    throw new DatasetError(
      `${where} has ${bytes.length} bytes, but a shape of (${count}, ${dims}) needs ${expected}: the file is damaged`,
    );
  }
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
  return { data, dims };
}

/** Writes points as a NumPy file of float32, shape (n, dims). */
export async function writeNpyPoints(path: string, data: Float32Array, dims: number): Promise<void> {
  await writeFileAtomic(path, npyBytes(data, dims));
}

/** The bytes of `writeNpyPoints`; format version 1, header padded so that the data begins at a multiple of 64. */
export function npyBytes(data: Float32Array, dims: number): Uint8Array {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${data.length / dims}, ${dims}), }`;
  const padded = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`;
  const bytes = new Uint8Array(10 + padded.length + data.length * 4);
  bytes.set(Buffer.from(MAGIC, 'latin1'));
  const view = new DataView(bytes.buffer);
  view.setUint16(6, 1, true);
  view.setUint16(8, padded.length, true);
  bytes.set(Buffer.from(padded, 'latin1'), 10);
  data.forEach((value, i) => {
    view.setFloat32(10 + padded.length + 4 * i, value, true);
  });
  return bytes;
}

function parseHeader(bytes: Uint8Array, view: DataView, where: string): NpyHeader {
  const refuse = (what: string): never => {
    throw new DatasetError(`${where}: ${what}`);
  };
  if (bytes.length < 12 || Buffer.from(bytes.subarray(0, 6)).toString('latin1') !== MAGIC)
    return refuse('not a NumPy file');
  const version = view.getUint8(6);
  if (version < 1 || version > 3) return refuse(`NumPy format version ${version} is not known`);
  const start = version === 1 ? 10 : 12;
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > MAX_HEADER_BYTES || start + length > bytes.length)
    return refuse(`the header says it has ${length} bytes, more than there are`);
  const header = Buffer.from(bytes.subarray(start, start + length)).toString('latin1');

  const fields =
    /^\{\s*'descr':\s*'([<>|=])(\w+)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d, ]*)\),?\s*\}\s*$/.exec(
      header,
    );
  if (!fields)
    return refuse(
      `the header is not that of a plain array of numbers: ${JSON.stringify(header.slice(0, 120))}`,
    );
  const [, order = '', code = '', fortran = '', shapeText = ''] = fields;
  const type = TYPES[code];
  if (!type) return refuse(`the type '${code}' is not supported: use float32, float64 or integers`);
  const shape = shapeText
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(Number);
  const [count = 0, dims = 1] = shape;
  if (shape.length < 1 || shape.length > 2 || count < 1 || dims < 1 || dims > MAX_COLUMNS) {
    return refuse(
      `the shape is (${shapeText}), but points are (n, d) with n >= 1 and 1 <= d <= ${MAX_COLUMNS}`,
    );
  }
  return {
    type,
    littleEndian: order !== '>',
    fortranOrder: fortran === 'True',
    count,
    dims,
    dataOffset: start + length,
  };
}
