import type { AsyncBuffer, ColumnMetaData, Compressors, FileMetaData, RowGroup, SchemaTree } from 'hyparquet';

/*
 * hyparquet writes as many values as a run of a page claims, up to 2^30, into a growing array: a few damaged bytes would
 * keep the process busy for minutes and fill its memory. The pages are looked through before they are handed to it
 * (https://parquet.apache.org/docs/file-format/data-pages/).
 */

/** Values of a column of lists; a column without lists has one for each row. */
const MAX_LIST_VALUES = 2 ** 24;

const DATA_PAGE = 0;
const DICTIONARY_PAGE = 2;
const DATA_PAGE_V2 = 3;
/** The field of a page's header that describes a page of the type. */
const DESCRIPTIONS: Readonly<Record<number, number>> = { [DATA_PAGE]: 5, [DICTIONARY_PAGE]: 7, [DATA_PAGE_V2]: 8 };
const PLAIN_DICTIONARY = 2;
const RLE = 3;
const RLE_DICTIONARY = 8;

/**
 * Looks through the pages of a row group.
 *
 * @throws {Error} when a page claims more values than there are rows, a run more than are left of its page, or a size is
 * missing.
 */
export async function refuseEndlessRuns(
  file: AsyncBuffer,
  metadata: FileMetaData,
  group: RowGroup,
  { columns, compressors }: { columns: readonly string[]; compressors: Compressors },
): Promise<void> {
  const { parquetSchema } = await import('hyparquet');
  const schema = parquetSchema(metadata);
  for (const { meta_data: column } of group.columns) {
    if (!column || !columns.includes(column.path_in_schema[0] ?? '')) continue;
    const begin = Number(column.dictionary_page_offset || column.data_page_offset);
    const end = begin + Number(column.total_compressed_size);
    if (!(begin >= 0 && begin <= end && end <= file.byteLength))
      throw new Error(`column ${column.path_in_schema.join('.')} is said to lie at ${begin} to ${end}`);
    const bytes = new Uint8Array(await file.slice(begin, end));
    const rows = Number(group.num_rows);
    checkColumn(bytes, { column, ...levelsOf(schema, column.path_in_schema), rows, compressors });
  }
}

interface Chunk {
  readonly column: ColumnMetaData;
  /** The highest definition and repetition level. */
  readonly definition: number;
  readonly repetition: number;
  /** Of the row group. */
  readonly rows: number;
  readonly compressors: Compressors;
}

/** The highest definition and repetition level of a column. */
function levelsOf(schema: SchemaTree, path: readonly string[]): { definition: number; repetition: number } {
  let [definition, repetition] = [0, 0];
  let node: SchemaTree | undefined = schema;
  for (const name of path) {
    node = node?.children.find(({ element }) => element.name === name);
    if (!node) throw new Error(`column ${path.join('.')} is not in the schema`);
    if (node.element.repetition_type !== 'REQUIRED') definition++;
    if (node.element.repetition_type === 'REPEATED') repetition++;
  }
  return { definition, repetition };
}

function checkColumn(bytes: Uint8Array, chunk: Chunk): void {
  let left = chunk.repetition === 0 ? chunk.rows : MAX_LIST_VALUES;
  for (let at = 0; at < bytes.length - 1 && left > 0; ) {
    const cursor = { bytes, at };
    const header = readStruct(cursor);
    const [type, unpackedBytes, packedBytes] = [numberOf(header, 1), numberOf(header, 2), numberOf(header, 3)];
    at = cursor.at + packedBytes;
    if (at > bytes.length) throw new Error(`a page of ${packedBytes} bytes is longer than its column`);
    const page = bytes.subarray(cursor.at, at);
    const description = header.get(DESCRIPTIONS[type] ?? 0);
    if (!(description instanceof Map)) throw new Error(`a page of type ${type} has no description`);
    if (type === DICTIONARY_PAGE) {
      numberOf(description, 1);
      continue;
    }
    const values = numberOf(description, 1);
    if (values > left) throw new Error(`a page claims ${values} values, but at most ${left} are left`);
    left -= values;
    if (type === DATA_PAGE) checkPage(unpacked(page, unpackedBytes, chunk), description, chunk);
    else checkPageV2(page, unpackedBytes, description, chunk);
  }
}

function unpacked(packed: Uint8Array, length: number, { column, compressors }: Chunk): Uint8Array {
  if (column.codec === 'UNCOMPRESSED') return packed;
  const bytes = compressors[column.codec]?.(packed, length);
  if (!bytes) throw new Error(`the compression ${column.codec} is not known`);
  return bytes;
}

function checkPage(page: Uint8Array, description: Struct, { repetition, definition, column }: Chunk): void {
  const [values, encoding] = [numberOf(description, 1), numberOf(description, 2)];
  let at = 0;
  for (const level of [repetition, definition]) {
    if (level === 0) continue;
    const length = wordAt(page, at);
    checkRuns(page.subarray(at + 4), bitWidth(level), values);
    at += 4 + length;
  }
  checkIndices(page.subarray(at), encoding, column, values);
}

/** In version 2 the levels are not packed, and the header has their lengths. */
function checkPageV2(page: Uint8Array, unpackedBytes: number, description: Struct, chunk: Chunk): void {
  const sizes = [1, 2, 3, 4, 5, 6].map((id) => numberOf(description, id));
  const [values = 0, , , encoding = 0, definitionBytes = 0, repetitionBytes = 0] = sizes;
  if (chunk.repetition > 0) checkRuns(page, bitWidth(chunk.repetition), values);
  if (chunk.definition > 0) checkRuns(page.subarray(repetitionBytes), bitWidth(chunk.definition), values);
  const levels = definitionBytes + repetitionBytes;
  const data = page.subarray(levels);
  const isPacked = description.get(7) !== false;
  checkIndices(isPacked ? unpacked(data, unpackedBytes - levels, chunk) : data, encoding, chunk.column, values);
}

/** The runs of indices into a dictionary, and of booleans; other encodings end where the bytes end. */
function checkIndices(data: Uint8Array, encoding: number, { type }: ColumnMetaData, values: number): void {
  if (encoding !== PLAIN_DICTIONARY && encoding !== RLE_DICTIONARY && encoding !== RLE) return;
  if (type === 'BOOLEAN') checkRuns(data.subarray(4), 1, values);
  else checkRuns(data.subarray(1), data[0] ?? 0, values);
}

/** @throws {Error} when a run of one value is longer than what is left of `values`. */
function checkRuns(bytes: Uint8Array, width: number, values: number): void {
  const cursor = { bytes, at: 0 };
  for (let seen = 0; seen < values && cursor.at < bytes.length; ) {
    const header = readVarint(cursor) >>> 0;
    const count = header >>> 1;
    if (header & 1) {
      seen += 8 * count;
      cursor.at += count * width;
      continue;
    }
    if (count > values - seen) throw new Error(`a run has ${count} values, but ${values - seen} are left of its page`);
    seen += count;
    cursor.at += (width + 7) >> 3;
  }
}

function bitWidth(level: number): number {
  return 32 - Math.clz32(level);
}

interface Cursor {
  readonly bytes: Uint8Array;
  at: number;
}

type Struct = Map<number, number | boolean | Struct | undefined>;

/** A size or a count, which hyparquet relies on. */
function numberOf(struct: Struct, id: number): number {
  const value = struct.get(id);
  if (typeof value === 'number' && value >= 0) return value;
  throw new Error(`a page header has ${value ?? 'nothing'} where a size is needed`);
}

/**
 * A struct of Thrift's compact protocol: its numbers of 16 and 32 bits, which all sizes are, booleans and structs. What
 * else there is, is passed over.
 */
function readStruct(cursor: Cursor, depth = 0): Struct {
  if (depth > 16) throw new Error('a page header is nested too deep');
  const struct: Struct = new Map();
  for (let id = 0; ; ) {
    const byte = readByte(cursor);
    if ((byte & 15) === 0) return struct;
    id = byte >> 4 ? id + (byte >> 4) : readZigzag(cursor);
    struct.set(id, readValue(cursor, byte & 15, depth));
  }
}

function readValue(cursor: Cursor, type: number, depth: number): number | boolean | Struct | undefined {
  if (type === 1 || type === 2) return type === 1;
  if (type === 4 || type === 5) return readZigzag(cursor);
  if (type === 12) return readStruct(cursor, depth + 1);
  if (type === 3) cursor.at++;
  else if (type === 6) readVarint(cursor);
  else if (type === 7) cursor.at += 8;
  else if (type === 8) {
    // Without a sign: a negative length would lead back to what was read already.
    const length = readVarint(cursor) >>> 0;
    cursor.at += length;
  } else if (type === 9) readList(cursor, depth);
  else throw new Error(`a page header has a field of type ${type}`);
  return undefined;
}

function readList(cursor: Cursor, depth: number): void {
  const byte = readByte(cursor);
  const count = byte >> 4 === 15 ? readVarint(cursor) : byte >> 4;
  const type = byte & 15;
  // A boolean in a list is a byte, so that every element takes one at least and the loop ends with the bytes.
  for (let i = 0; i < count; i++) readValue(cursor, type <= 2 ? 3 : type, depth + 1);
}

function readByte(cursor: Cursor): number {
  const byte = cursor.bytes[cursor.at++];
  if (byte === undefined) throw new Error('a page ends too early');
  return byte;
}

function readVarint(cursor: Cursor): number {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = readByte(cursor);
    // As hyparquet reads it: bits beyond the 32nd are lost.
    value |= (byte & 127) << shift;
    if (byte < 128) return value;
  }
}

function readZigzag(cursor: Cursor): number {
  const value = readVarint(cursor);
  return (value >>> 1) ^ -(value & 1);
}

function wordAt(bytes: Uint8Array, at: number): number {
  if (at + 4 > bytes.length) throw new Error('a page ends too early');
  return new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0, true);
}
