import protobuf from 'protobufjs/light.js';
import { errorText, IsoDiffusionError, OnnxFormatError } from '../../errors.ts';
import { EntryMessage } from './schema.ts';

/** An ONNX file that need not be in memory. */
export interface ByteSource {
  readonly size: number;
  /** The bytes from `begin` to `end` (exclusive). */
  read(begin: number, end: number): Promise<Uint8Array>;
}

/**
 * Where the tensors of an ONNX file say that their bytes lie, each location once and in alphabetical order: of
 * initializers, and of tensors in attributes, subgraphs and functions. Contents are skipped, so that a file as large as
 * ONNX allows needs a few kilobytes of memory.
 *
 * @throws {OnnxFormatError} when the file is no ONNX model, or truncated.
 */
export async function externalLocations(source: ByteSource): Promise<string[]> {
  const locations = new Set<string>();
  try {
    await visit(new Window(source), 'ModelProto', { begin: 0, end: source.size }, locations, 0);
  } catch (cause) {
    if (cause instanceof IsoDiffusionError) throw cause;
    throw new OnnxFormatError(`not an ONNX model, or a truncated one: ${errorText(cause)}`, { cause });
  }
  return [...locations].sort();
}

type Message =
  | 'ModelProto'
  | 'FunctionProto'
  | 'GraphProto'
  | 'NodeProto'
  | 'AttributeProto'
  | 'SparseTensorProto';

/** The fields of onnx.proto below which tensors lie, by their numbers. */
const NESTED: Readonly<Record<Message, Readonly<Record<number, Message | 'TensorProto'>>>> = {
  ModelProto: { 7: 'GraphProto', 25: 'FunctionProto' },
  FunctionProto: { 7: 'NodeProto', 11: 'AttributeProto' },
  GraphProto: { 1: 'NodeProto', 5: 'TensorProto', 15: 'SparseTensorProto' },
  NodeProto: { 5: 'AttributeProto' },
  AttributeProto: {
    5: 'TensorProto',
    6: 'GraphProto',
    10: 'TensorProto',
    11: 'GraphProto',
    22: 'SparseTensorProto',
    23: 'SparseTensorProto',
  },
  SparseTensorProto: { 1: 'TensorProto', 2: 'TensorProto' },
};
const TENSOR_EXTERNAL_DATA = 13;
const TENSOR_DATA_LOCATION = 14;
const EXTERNAL = 1;
const VARINT = 0;
const LENGTH_DELIMITED = 2;
const WINDOW_BYTES = 65_536;
/** Two varints. */
const MAX_HEADER_BYTES = 20;
/** More than any path has; an entry is read at once. */
const MAX_ENTRY_BYTES = 65_536;
/** protobuf's own limit. */
const MAX_DEPTH = 100;

interface Range {
  readonly begin: number;
  readonly end: number;
}

async function visit(
  window: Window,
  message: Message,
  range: Range,
  found: Set<string>,
  depth: number,
): Promise<void> {
  if (depth > MAX_DEPTH) throw new OnnxFormatError(`the ONNX model nests more than ${MAX_DEPTH} messages`);
  for await (const { id, value } of fieldsOf(window, range)) {
    const inner = NESTED[message][id];
    if (inner === 'TensorProto') await visitTensor(window, value, found);
    else if (inner) await visit(window, inner, value, found, depth + 1);
  }
}

async function visitTensor(window: Window, range: Range, found: Set<string>): Promise<void> {
  let isExternal = false;
  let location = '';
  for await (const { id, value, number } of fieldsOf(window, range)) {
    if (id === TENSOR_DATA_LOCATION) isExternal = number === EXTERNAL;
    if (id !== TENSOR_EXTERNAL_DATA) continue;
    const entry = EntryMessage.toObject(EntryMessage.decode(await window.entry(value)));
    if (entry.key === 'location') location = String(entry.value ?? '');
  }
  if (isExternal) found.add(location);
}

interface Field {
  readonly id: number;
  /** Where the value lies. */
  readonly value: Range;
  /** The value of a varint. */
  readonly number: number | undefined;
}

async function* fieldsOf(window: Window, { begin, end }: Range): AsyncGenerator<Field> {
  for (let at = begin; at < end; ) {
    const reader = protobuf.Reader.create(await window.header(at));
    const tag = reader.uint32();
    const wireType = tag & 7;
    const number = wireType === VARINT ? reader.uint32() : undefined;
    const length = wireType === LENGTH_DELIMITED ? reader.uint32() : 0;
    if (number === undefined && wireType !== LENGTH_DELIMITED) reader.skipType(wireType);
    const value = { begin: at + reader.pos, end: at + reader.pos + length };
    if (value.end > end) throw new OnnxFormatError('not an ONNX model, or a truncated one');
    yield { id: tag >>> 3, value, number };
    at = value.end;
  }
}

/** A piece of the file in memory, so that neighbouring fields are read at once. */
class Window {
  private bytes: Uint8Array = new Uint8Array();
  private begin = 0;

  constructor(private readonly source: ByteSource) {}

  /** What lies from `position` on, enough for a tag with a length or a number. */
  async header(position: number): Promise<Uint8Array> {
    const needed = Math.min(position + MAX_HEADER_BYTES, this.source.size);
    if (position < this.begin || needed > this.begin + this.bytes.length) {
      this.begin = position;
      this.bytes = await this.source.read(position, Math.min(position + WINDOW_BYTES, this.source.size));
    }
    return this.bytes.subarray(position - this.begin);
  }

  /** The bytes of an entry of `external_data`. */
  async entry({ begin, end }: Range): Promise<Uint8Array> {
    if (end - begin > MAX_ENTRY_BYTES)
      throw new OnnxFormatError(`the ONNX model describes external data in ${end - begin} bytes`);
    return this.source.read(begin, end);
  }
}
