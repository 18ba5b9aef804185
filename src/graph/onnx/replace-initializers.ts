import protobuf from 'protobufjs/light.js';
import { OnnxFormatError } from '../../errors.ts';
import { TensorMessage, type TensorProto } from './schema.ts';

/** protobuf, and with it a single ONNX file, ends at 2 GiB. */
export const MAX_ONNX_BYTES = 2 ** 31 - 1;

/** Field numbers of onnx.proto. */
const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR_RAW_DATA = 9;
/** The fields of a TensorProto that hold its contents in some form: floats, ints, strings, raw, external, ... */
const TENSOR_CONTENTS = new Set([4, 5, 6, 7, 9, 10, 11, 13, 14]);
const LENGTH_DELIMITED = 2;

/**
 * The same ONNX file with other contents of some initializers: every other byte stays, so that names, operator sets,
 * metadata, and whatever this package does not know are kept.
 *
 * @param contents the new bytes of an initializer, little endian in its data type; undefined leaves it as it is.
 * @throws {OnnxFormatError} when the file is damaged or would exceed 2 GiB.
 */
export function replaceInitializers(
  model: Uint8Array,
  contents: (name: string) => Uint8Array | undefined,
): Uint8Array {
  const pieces = rewritten(model, MODEL_GRAPH, (graph) =>
    rewritten(graph, GRAPH_INITIALIZER, (tensor) => {
      const { name = '' } = TensorMessage.toObject(TensorMessage.decode(tensor)) as TensorProto;
      const bytes = contents(name);
      return bytes ? withContents(tensor, bytes) : [tensor];
    }),
  );
  const total = lengthOf(pieces);
  if (total > MAX_ONNX_BYTES)
    throw new OnnxFormatError(`the ONNX model has ${total} bytes; one file can hold ${MAX_ONNX_BYTES}`);
  const result = new Uint8Array(total);
  let offset = 0;
  for (const piece of pieces) {
    result.set(piece, offset);
    offset += piece.length;
  }
  return result;
}

interface Field {
  readonly id: number;
  readonly wireType: number;
  /** Tag and value. */
  readonly whole: Uint8Array;
  /** The value of a field whose length is written before it. */
  readonly value: Uint8Array;
}

/** The message with every field `id` replaced by what `rewrite` makes of its value. */
function rewritten(
  message: Uint8Array,
  id: number,
  rewrite: (value: Uint8Array) => Uint8Array[],
): Uint8Array[] {
  return [...fieldsOf(message)].flatMap((field) => {
    if (field.id !== id || field.wireType !== LENGTH_DELIMITED) return [field.whole];
    const value = rewrite(field.value);
    return [header(id, lengthOf(value)), ...value];
  });
}

function withContents(tensor: Uint8Array, bytes: Uint8Array): Uint8Array[] {
  const kept = [...fieldsOf(tensor)].filter(({ id }) => !TENSOR_CONTENTS.has(id)).map(({ whole }) => whole);
  return [...kept, header(TENSOR_RAW_DATA, bytes.length), bytes];
}

function header(id: number, length: number): Uint8Array {
  return protobuf.Writer.create()
    .uint32((id << 3) | LENGTH_DELIMITED)
    .uint32(length)
    .finish();
}

function* fieldsOf(message: Uint8Array): Generator<Field> {
  const reader = protobuf.Reader.create(message);
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    const wireType = tag & 7;
    let valueStart = reader.pos;
    if (wireType === LENGTH_DELIMITED) {
      const length = reader.uint32();
      valueStart = reader.pos;
      reader.skip(length);
    } else reader.skipType(wireType);
    yield {
      id: tag >>> 3,
      wireType,
      whole: message.subarray(start, reader.pos),
      value: message.subarray(valueStart, reader.pos),
    };
  }
}

function lengthOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}
