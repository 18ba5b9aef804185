import { errorText, InvalidArgumentError, SafetensorsError } from '../errors.ts';
import { type JsonObject, type JsonValue, parseStrictJson } from './json.ts';
import { HEAD_BYTES, kindNote } from './known-files.ts';
import { type RegularFile, withRegularFile } from './regular-file.ts';

/*
 * The safetensors format (https://github.com/huggingface/safetensors#format): 8 bytes that hold the length of a JSON
 * header, the header, then the data of the tensors. `float-tensors.ts` reads and makes the weights of models.
 */

/**
 * The element types of safetensors with the array that holds each. float16, bfloat16 and float8 are kept as raw bits,
 * BOOL as bytes.
 */
export const DTYPE_ARRAYS = {
  BOOL: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  F8_E5M2: Uint8Array,
  F8_E4M3: Uint8Array,
  I16: Int16Array,
  U16: Uint16Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I32: Int32Array,
  U32: Uint32Array,
  F32: Float32Array,
  F64: Float64Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
} as const;

export type SafetensorsDtype = keyof typeof DTYPE_ARRAYS;
export type TensorArray =
  | Uint8Array
  | Int8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array;

/** A tensor of a safetensors file: `data` has the product of `shape` elements, row-major. */
export interface NamedTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: number[];
  readonly data: TensorArray;
}

/** Where a tensor lies: `begin` and `end` are byte offsets from the first byte after the header. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  /** In the order of their offsets, without holes. */
  readonly entries: TensorEntry[];
  readonly metadata: Map<string, string>;
  /** Byte offset in the file at which tensor data begins. */
  readonly dataStart: number;
}

/** Longest header that the reference implementation reads. */
const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;

/**
 * Reads tensors from a safetensors file. The header is read and checked as a whole, but only the data of the tensors
 * that were asked for.
 *
 * @param options.names the tensors to read, in this order (default all, in the order of the file).
 * @throws SafetensorsError if the file is missing, truncated or malformed, or has no tensor of a given name.
 * @example const weights = await readSafetensors('unet/diffusion_pytorch_model.safetensors');
 */
export async function readSafetensors(
  path: string,
  options: { names?: readonly string[] } = {},
): Promise<Map<string, NamedTensor>> {
  return withSafetensors(path, async (file, { entries, dataStart }) => {
    const tensors = new Map<string, NamedTensor>();
    for (const { name, dtype, shape, begin, end } of select(entries, options.names, path)) {
      const bytes = await file.read(dataStart + begin, dataStart + end);
      tensors.set(name, { dtype, shape, data: new DTYPE_ARRAYS[dtype](bytes.buffer) });
    }
    return tensors;
  });
}

/** As `readSafetensors`, of bytes in memory, with the metadata; `where` names them in errors. */
export async function parseSafetensors(
  bytes: Uint8Array,
  where: string,
): Promise<{ readonly tensors: Map<string, NamedTensor>; readonly metadata: Map<string, string> }> {
  const read = async (begin: number, end: number) => bytes.slice(begin, end);
  const { entries, metadata, dataStart } = await readHeader({ size: bytes.length, read }, where);
  const tensors = new Map<string, NamedTensor>();
  for (const { name, dtype, shape, begin, end } of entries) {
    const { buffer } = await read(dataStart + begin, dataStart + end);
    tensors.set(name, { dtype, shape, data: new DTYPE_ARRAYS[dtype](buffer) });
  }
  return { tensors, metadata };
}

/** Reads and checks the header alone: names, dtypes, shapes, offsets and metadata. Errors as {@link readSafetensors}. */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  return withSafetensors(path, async (_, header) => header);
}

/** Opens a safetensors file for `use`, its header read and checked. Errors as {@link readSafetensors}. */
export async function withSafetensors<T>(
  path: string,
  use: (file: RegularFile, header: SafetensorsHeader) => Promise<T>,
): Promise<T> {
  return withRegularFile(path, SafetensorsError, async (file) => use(file, await readHeader(file, path)));
}

function select(entries: TensorEntry[], names: readonly string[] | undefined, path: string): TensorEntry[] {
  if (names === undefined) return entries;
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  return names.map((name) => {
    const entry = byName.get(name);
    if (entry === undefined) throw new SafetensorsError(`${path} has no tensor named "${name}".`);
    return entry;
  });
}

async function readHeader(file: Pick<RegularFile, 'size' | 'read'>, where: string): Promise<SafetensorsHeader> {
  if (file.size < LENGTH_BYTES)
    throw new SafetensorsError(`${where} has ${file.size} bytes: too short for a safetensors file.`);
  const start = await file.read(0, LENGTH_BYTES);
  const note = async () => kindNote(await file.read(0, Math.min(file.size, HEAD_BYTES)));
  const length = Number(new DataView(start.buffer).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES)
    throw new SafetensorsError(
      `${where} states a header of ${length} bytes, above the limit of ${MAX_HEADER_BYTES}: not a safetensors file${await note()}.`,
    );
  const dataStart = LENGTH_BYTES + length;
  if (dataStart > file.size)
    throw new SafetensorsError(
      `${where} states a header of ${length} bytes but has ${file.size} bytes in all: it is truncated${await note()}.`,
    );
  return parseHeader(await file.read(LENGTH_BYTES, dataStart), file.size, where);
}

/**
 * Parses and checks a header: known dtypes, sizes that agree with shapes, and tensors that cover the file's data
 * without holes or overlaps, where nothing can hide.
 *
 * @throws SafetensorsError naming the tensor and what is wrong with it.
 */
function parseHeader(json: Uint8Array, fileBytes: number, where: string): SafetensorsHeader {
  const metadata = new Map<string, string>();
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(parseHeaderObject(json, where))) {
    if (name === '__metadata__') readMetadata(value, metadata, where);
    else entries.push(readEntry(name, value, where));
  }
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  const dataStart = LENGTH_BYTES + json.length;
  checkCoverage(entries, fileBytes - dataStart, where);
  return { entries, metadata, dataStart };
}

function parseHeaderObject(json: Uint8Array, where: string): JsonObject {
  // The format asks for `{` as the first byte; white space may only follow.
  if (json[0] !== 0x7b) throw new SafetensorsError(`The header of ${where} does not begin with "{".`);
  try {
    return parseStrictJson(json) as JsonObject;
  } catch (error) {
    throw new SafetensorsError(`The header of ${where} is not valid JSON: ${errorText(error)}.`, { cause: error });
  }
}

function readMetadata(value: JsonValue, target: Map<string, string>, where: string): void {
  if (!isObject(value)) throw new SafetensorsError(`__metadata__ of ${where} is not an object.`);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string')
      throw new SafetensorsError(`__metadata__ of ${where} has a value that is not a string at "${key}".`);
    target.set(key, text);
  }
}

function readEntry(name: string, value: JsonValue, where: string): TensorEntry {
  const fail = (what: string) => new SafetensorsError(`Tensor "${name}" of ${where} ${what}.`);
  if (!isObject(value)) throw fail('has no description');
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !isDtype(dtype)) throw fail(`has the unknown dtype ${JSON.stringify(dtype)}`);
  if (!isSizeArray(shape)) throw fail(`has the malformed shape ${JSON.stringify(shape)}`);
  if (!isSizeArray(offsets) || offsets.length !== 2)
    throw fail(`has malformed data_offsets ${JSON.stringify(offsets)}`);
  const [begin, end] = offsets as [number, number];
  const bytes = byteSize(dtype, shape);
  if (end - begin !== bytes)
    throw fail(`occupies bytes ${begin} to ${end}, but ${dtype} [${shape}] takes ${bytes} bytes`);
  return { name, dtype, shape, begin, end };
}

function checkCoverage(entries: TensorEntry[], dataBytes: number, where: string): void {
  let expected = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== expected)
      throw new SafetensorsError(
        `Tensor "${name}" of ${where} begins at byte ${begin} instead of ${expected}: tensors overlap or leave a hole.`,
      );
    expected = end;
  }
  if (expected !== dataBytes)
    throw new SafetensorsError(
      `${where} has ${dataBytes} bytes of tensor data where its header describes ${expected}: it is truncated or damaged.`,
    );
}

/**
 * The bytes of a safetensors file that holds `tensors`, in pieces without a copy: the header, then a view of each
 * tensor. Equal tensors give equal bytes, whatever their order in the map.
 *
 * @param metadata free strings, by convention `{ format: 'pt' }` for weights that torch code loads.
 * @throws {InvalidArgumentError} if a tensor's name, dtype, shape or data do not fit together, before any piece.
 * @example await writeFileAtomic('model.safetensors', safetensorsChunks(tensors, { format: 'pt' }));
 */
export function safetensorsChunks(
  tensors: ReadonlyMap<string, NamedTensor>,
  metadata?: Readonly<Record<string, string>>,
): Iterable<Uint8Array> {
  const { header, order } = buildHeader(tensors, metadata);
  const views = order.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return [header, ...views];
}

/**
 * The header bytes (length included) of a file that holds `tensors`, and their order in it: wide elements first, so
 * that each tensor is aligned to its element size, then by name in code point order, as the reference does.
 *
 * @throws InvalidArgumentError if a tensor's name, dtype, shape or data do not fit together.
 */
function buildHeader(
  tensors: ReadonlyMap<string, NamedTensor>,
  metadata: Readonly<Record<string, string>> = {},
): { header: Uint8Array; order: NamedTensor[] } {
  for (const [name, tensor] of tensors) checkTensor(name, tensor);
  checkMetadata(metadata);
  const sorted = [...tensors].sort(([nameA, a], [nameB, b]) => {
    return elementBytes(b.dtype) - elementBytes(a.dtype) || byCodePoints(nameA, nameB);
  });
  // Text pieces, not an object: objects reorder names that look like integers.
  const parts = Object.keys(metadata).length > 0 ? [`"__metadata__":${JSON.stringify(metadata)}`] : [];
  let offset = 0;
  for (const [name, { dtype, shape, data }] of sorted) {
    const description = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    parts.push(`${JSON.stringify(name)}:${JSON.stringify(description)}`);
    offset += data.byteLength;
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`);
  if (json.length > MAX_HEADER_BYTES) throw new InvalidArgumentError(`The header would have ${json.length} bytes.`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(LENGTH_BYTES + padded).fill(' '.charCodeAt(0));
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, LENGTH_BYTES);
  return { header, order: sorted.map(([, tensor]) => tensor) };
}

/** The order of code points, which `<` on texts does not keep for characters of two units. */
function byCodePoints(a: string, b: string): number {
  const [left, right] = [Array.from(a), Array.from(b)];
  const differ = left.findIndex((character, i) => character !== right[i]);
  if (differ < 0) return left.length - right.length;
  return (left[differ]?.codePointAt(0) ?? 0) - (right[differ]?.codePointAt(0) ?? -1);
}

function checkTensor(name: string, { dtype, shape, data }: NamedTensor): void {
  const fail = (what: string) => new InvalidArgumentError(`Tensor "${name}" ${what}.`);
  if (name === '__metadata__') throw fail('has a name that safetensors reserves');
  if (/\p{Surrogate}/u.test(name)) throw fail('has a name that is not valid Unicode');
  if (!isDtype(dtype)) throw fail(`has the unknown dtype ${String(dtype)}`);
  if (!(data instanceof DTYPE_ARRAYS[dtype]))
    throw fail(`is ${dtype}, which is held by ${DTYPE_ARRAYS[dtype].name}, not ${data.constructor.name}`);
  if (!isSizeArray(shape) || byteSize(dtype, shape) !== data.byteLength)
    throw fail(`has ${data.length} elements, which does not fit its shape [${shape}]`);
}

function checkMetadata(metadata: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string' || /\p{Surrogate}/u.test(key + value))
      throw new InvalidArgumentError(`Metadata "${key}" of a safetensors file must be a string of valid Unicode.`);
  }
}

function byteSize(dtype: SafetensorsDtype, shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, elementBytes(dtype));
}

function elementBytes(dtype: SafetensorsDtype): number {
  return DTYPE_ARRAYS[dtype].BYTES_PER_ELEMENT;
}

function isDtype(name: string): name is SafetensorsDtype {
  return Object.hasOwn(DTYPE_ARRAYS, name);
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSizeArray(value: JsonValue | undefined): value is number[] {
  const isSize = (item: JsonValue) => Number.isSafeInteger(item) && Number(item) >= 0 && !Object.is(item, -0);
  return Array.isArray(value) && value.every(isSize);
}
