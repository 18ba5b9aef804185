/**
 * What is done with the bytes of an ONNX file without decoding the whole of it: finding the files that its tensors lie in, and
 * giving initializers other contents. A protobuf message is a row of fields, each a tag with a number and a value.
 */
import { errorText, IsoDiffusionError, OnnxFormatError } from '../../errors.ts';
import { HEAD_BYTES, kindNote } from '../../files/known-files.ts';
import { LENGTH_DELIMITED, lengthHeader, Reader, VARINT } from '../../files/protobuf.ts';
import { concatenated } from '../types.ts';
import { decodeEntryProto, decodeTensorProto, EXTERNAL, MAX_ONNX_BYTES } from './schema.ts';

interface Range {
  readonly begin: number;
  readonly end: number;
}

interface Field {
  readonly id: number;
  readonly wireType: number;
  /** Where its tag begins. */
  readonly begin: number;
  /** Where its value lies, without the length that is written before it. */
  readonly value: Range;
  /** The value of a varint. */
  readonly number: number | undefined;
}

/**
 * @param bytes what lies from `begin` on, at least the field up to a value whose length is written before it.
 * @param end where the message ends.
 */
function readField(bytes: Uint8Array, { begin, end }: Range): Field {
  const reader = new Reader(bytes);
  const { id, wireType } = reader.tag();
  const number = wireType === VARINT ? reader.varint() : undefined;
  const length = wireType === LENGTH_DELIMITED ? reader.varint() : 0;
  if (wireType !== VARINT && wireType !== LENGTH_DELIMITED) reader.skip(wireType);
  const value = { begin: begin + reader.position, end: begin + reader.position + length };
  if (length < 0 || value.end > end) throw new OnnxFormatError('not an ONNX model, or a truncated one');
  return { id, wireType, begin, value, number };
}

/** An ONNX file that need not be in memory. */
interface ByteSource {
  readonly size: number;
  /** The bytes from `begin` to `end` (exclusive). */
  read(begin: number, end: number): Promise<Uint8Array>;
}

/**
 * Where the tensors of an ONNX file say that their bytes lie, each location once and in alphabetical order: of
 * initializers, and of tensors in attributes, subgraphs and functions. Contents are skipped: even the largest file that ONNX
 * allows needs a few kilobytes of memory.
 *
 * @throws {OnnxFormatError} when the file is not an ONNX model, or is truncated.
 */
export async function externalLocations(source: ByteSource): Promise<string[]> {
  const locations = new Set<string>();
  try {
    await visit(new Window(source), 'ModelProto', { begin: 0, end: source.size }, locations, 0);
  } catch (cause) {
    if (cause instanceof IsoDiffusionError) throw cause;
    const head = await source.read(0, Math.min(source.size, HEAD_BYTES));
    throw new OnnxFormatError(`not an ONNX model, or a truncated one${kindNote(head)}: ${errorText(cause)}`, { cause });
  }
  return [...locations].sort();
}

type Message = 'ModelProto' | 'FunctionProto' | 'GraphProto' | 'NodeProto' | 'AttributeProto' | 'SparseTensorProto';

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
const WINDOW_BYTES = 65_536;
/** Two varints. */
const MAX_HEADER_BYTES = 20;
/** More than any path has; an entry is read at once. */
const MAX_ENTRY_BYTES = 65_536;
/** protobuf's own limit. */
const MAX_DEPTH = 100;

async function visit(window: Window, message: Message, range: Range, found: Set<string>, depth: number): Promise<void> {
  if (depth > MAX_DEPTH) throw new OnnxFormatError(`the ONNX model nests more than ${MAX_DEPTH} messages`);
  for await (const { id, value } of fieldsIn(window, range)) {
    const inner = NESTED[message][id];
    if (inner === 'TensorProto') await visitTensor(window, value, found);
    else if (inner) await visit(window, inner, value, found, depth + 1);
  }
}

async function visitTensor(window: Window, range: Range, found: Set<string>): Promise<void> {
  let isExternal = false;
  let location = '';
  for await (const { id, value, number } of fieldsIn(window, range)) {
    if (id === TENSOR_DATA_LOCATION) isExternal = number === EXTERNAL;
    if (id !== TENSOR_EXTERNAL_DATA) continue;
    const entry = decodeEntryProto(await window.entry(value));
    if (entry.key === 'location') location = entry.value ?? '';
  }
  if (isExternal) found.add(location);
}

async function* fieldsIn(window: Window, { begin, end }: Range): AsyncGenerator<Field> {
  for (let at = begin; at < end; ) {
    const field = readField(await window.header(at), { begin: at, end });
    yield field;
    at = field.value.end;
  }
}

/** A piece of the file in memory, which spares a read for each field. */
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

/** Field numbers of onnx.proto. */
const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR_RAW_DATA = 9;
/** The fields of a TensorProto that hold its contents in some form: floats, ints, strings, raw, external, ... */
const TENSOR_CONTENTS = new Set([4, 5, 6, 7, 9, 10, 11, 13, 14]);

/**
 * The same ONNX file with other contents of some initializers. Every other byte stays: names, operator sets, metadata, and
 * whatever this package does not know.
 *
 * @param contents the new bytes of an initializer, little endian in its data type; undefined leaves it as it is.
 * @throws {OnnxFormatError} when the file is damaged or would exceed 2 GiB.
 */
export function replaceInitializers(model: Uint8Array, contents: (name: string) => Uint8Array | undefined): Uint8Array {
  return concatenated(replacedInitializers(model, contents));
}

/** `replaceInitializers` in pieces, one after another: what stands for new contents need not be the bytes themselves. */
export function replacedInitializers<Contents extends Sized>(
  model: Uint8Array,
  contents: (name: string) => Contents | undefined,
): (Uint8Array | Contents)[] {
  const pieces = rewritten(model, MODEL_GRAPH, (graph) =>
    rewritten(graph, GRAPH_INITIALIZER, (tensor): (Uint8Array | Contents)[] => {
      const { name = '' } = decodeTensorProto(tensor);
      const replaced = contents(name);
      return replaced ? withContents(tensor, replaced) : [tensor];
    }),
  );
  const total = lengthOf(pieces);
  if (total > MAX_ONNX_BYTES)
    throw new OnnxFormatError(`the ONNX model has ${total} bytes; one file can hold ${MAX_ONNX_BYTES}`);
  return pieces;
}

/** Bytes, or what stands for as many. */
interface Sized {
  readonly length: number;
}

/** The message with every field `id` replaced by what `rewrite` makes of its value. */
function rewritten<Piece extends Sized>(
  message: Uint8Array,
  id: number,
  rewrite: (value: Uint8Array) => Piece[],
): (Uint8Array | Piece)[] {
  return [...fieldsOf(message)].flatMap(({ begin, value, ...field }) => {
    if (field.id !== id || field.wireType !== LENGTH_DELIMITED) return [message.subarray(begin, value.end)];
    const replaced = rewrite(message.subarray(value.begin, value.end));
    return [lengthHeader(id, lengthOf(replaced)), ...replaced];
  });
}

function withContents<Contents extends Sized>(tensor: Uint8Array, contents: Contents): (Uint8Array | Contents)[] {
  const kept = [...fieldsOf(tensor)].filter(({ id }) => !TENSOR_CONTENTS.has(id));
  return [
    ...kept.map(({ begin, value }) => tensor.subarray(begin, value.end)),
    lengthHeader(TENSOR_RAW_DATA, contents.length),
    contents,
  ];
}

function* fieldsOf(message: Uint8Array): Generator<Field> {
  for (let at = 0; at < message.length; ) {
    const field = readField(message.subarray(at), { begin: at, end: message.length });
    yield field;
    at = field.value.end;
  }
}

function lengthOf(pieces: readonly Sized[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}
