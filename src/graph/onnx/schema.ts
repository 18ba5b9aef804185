import protobuf from 'protobufjs/light.js';
import { errorText, OnnxFormatError } from '../../errors.ts';
import { kindNote } from '../../files/known-files.ts';

/** protobuf, and with it a single ONNX file, ends at 2 GiB. */
export const MAX_ONNX_BYTES = 2 ** 31 - 1;

/**
 * The messages of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, Apache-2.0) that this package
 * writes and reads, as a protobufjs descriptor. Unknown fields of other writers are skipped.
 */
const field = (type: string, id: number) => ({ type, id });
const list = (type: string, id: number) => ({ rule: 'repeated', type, id });
const packed = (type: string, id: number) => ({ ...list(type, id), options: { packed: true } });

const root = protobuf.Root.fromJSON({
  nested: {
    ModelProto: {
      fields: {
        irVersion: field('int64', 1),
        producerName: field('string', 2),
        producerVersion: field('string', 3),
        graph: field('GraphProto', 7),
        opsetImport: list('OperatorSetIdProto', 8),
        metadataProps: list('StringStringEntryProto', 14),
      },
    },
    OperatorSetIdProto: { fields: { domain: field('string', 1), version: field('int64', 2) } },
    StringStringEntryProto: { fields: { key: field('string', 1), value: field('string', 2) } },
    GraphProto: {
      fields: {
        node: list('NodeProto', 1),
        name: field('string', 2),
        initializer: list('TensorProto', 5),
        input: list('ValueInfoProto', 11),
        output: list('ValueInfoProto', 12),
      },
    },
    NodeProto: {
      fields: {
        input: list('string', 1),
        output: list('string', 2),
        name: field('string', 3),
        opType: field('string', 4),
        attribute: list('AttributeProto', 5),
        domain: field('string', 7),
      },
    },
    AttributeProto: {
      fields: {
        name: field('string', 1),
        f: field('float', 2),
        i: field('int64', 3),
        s: field('bytes', 4),
        t: field('TensorProto', 5),
        g: field('GraphProto', 6),
        floats: list('float', 7),
        ints: list('int64', 8),
        strings: list('bytes', 9),
        type: field('int32', 20),
      },
    },
    TensorProto: {
      fields: {
        dims: list('int64', 1),
        dataType: field('int32', 2),
        floatData: packed('float', 4),
        int32Data: packed('int32', 5),
        int64Data: packed('int64', 7),
        name: field('string', 8),
        rawData: field('bytes', 9),
        doubleData: packed('double', 10),
        externalData: list('StringStringEntryProto', 13),
        dataLocation: field('int32', 14),
      },
    },
    ValueInfoProto: { fields: { name: field('string', 1), type: field('TypeProto', 2) } },
    TypeProto: { fields: { tensorType: field('TensorTypeProto', 1), sequenceType: field('SequenceTypeProto', 4) } },
    SequenceTypeProto: { fields: { elemType: field('TypeProto', 1) } },
    TensorTypeProto: { fields: { elemType: field('int32', 1), shape: field('TensorShapeProto', 2) } },
    TensorShapeProto: { fields: { dim: list('DimensionProto', 1) } },
    DimensionProto: {
      fields: { dimValue: field('int64', 1), dimParam: field('string', 2) },
      // As in onnx.proto; it also keeps a length of 0, which a field of its own would leave out as its default.
      oneofs: { value: { oneof: ['dimValue', 'dimParam'] } },
    },
  },
});

export const ModelMessage = root.lookupType('ModelProto');
export const TensorMessage = root.lookupType('TensorProto');
export const EntryMessage = root.lookupType('StringStringEntryProto');

/** The plain objects that the messages encode from and decode to. Decoding leaves out fields that were not set. */
export interface ModelProto {
  irVersion?: number;
  producerName?: string;
  producerVersion?: string;
  graph?: GraphProto;
  opsetImport?: { domain?: string; version?: number }[];
  metadataProps?: { key?: string; value?: string }[];
}
export interface GraphProto {
  node?: NodeProto[];
  name?: string;
  initializer?: TensorProto[];
  input?: ValueInfoProto[];
  output?: ValueInfoProto[];
}
export interface NodeProto {
  input?: string[];
  output?: string[];
  name?: string;
  opType?: string;
  attribute?: AttributeProto[];
  domain?: string;
}
export interface AttributeProto {
  name?: string;
  f?: number;
  i?: number;
  s?: Uint8Array;
  t?: TensorProto;
  g?: GraphProto;
  floats?: number[];
  ints?: number[];
  strings?: Uint8Array[];
  type?: number;
}
export interface TensorProto {
  dims?: number[];
  dataType?: number;
  floatData?: number[];
  int32Data?: number[];
  int64Data?: number[];
  name?: string | undefined;
  rawData?: Uint8Array;
  doubleData?: number[];
  /** Where the bytes lie, with the keys location, offset and length; used where `dataLocation` is 1. */
  externalData?: { key?: string; value?: string }[] | undefined;
  dataLocation?: number;
}
export interface ValueInfoProto {
  name?: string | undefined;
  type?: TypeProto;
}
interface TypeProto {
  tensorType?: {
    elemType?: number | undefined;
    shape?: { dim?: { dimValue?: number; dimParam?: string }[] | undefined };
  };
  sequenceType?: { elemType?: TypeProto | undefined };
}

/** AttributeProto.AttributeType. */
export const ATTRIBUTE_TYPE = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  graph: 5,
  floats: 6,
  ints: 7,
} as const;

/** The operator sets that `lowering` understands. */
const OLDEST_OPSET = 9;
const NEWEST_OPSET = 21;

/** A decoded ONNX model of a supported operator set. */
export interface OnnxProgram {
  readonly graph: GraphProto;
  readonly opset: number;
}

/** @throws {OnnxFormatError} when the bytes are not an ONNX model, are damaged, or use an operator set that is not supported. */
export function decodeOnnx(bytes: Uint8Array): OnnxProgram {
  const { graph, opset } = decodeModel(bytes);
  if (opset === undefined || !(opset >= OLDEST_OPSET && opset <= NEWEST_OPSET))
    throw new OnnxFormatError(
      `operator set ${opset ?? 'missing'} is not supported: export the model with opset ${OLDEST_OPSET} to ${NEWEST_OPSET}`,
    );
  return { graph, opset };
}

/** A decoded model of any operator set. @throws {OnnxFormatError} when the bytes are not an ONNX model, or are damaged. */
export function decodeModel(bytes: Uint8Array): { graph: GraphProto; opset: number | undefined } {
  const model = decode(bytes);
  const opset = model.opsetImport?.find(({ domain = '' }) => plainDomain(domain) === '')?.version;
  if (!model.graph) throw new OnnxFormatError('the ONNX model holds no graph');
  return { graph: model.graph, opset };
}

function decode(bytes: Uint8Array): ModelProto {
  try {
    return ModelMessage.toObject(ModelMessage.decode(bytes), {
      longs: Number,
      arrays: false,
      defaults: false,
    }) as ModelProto;
  } catch (cause) {
    throw new OnnxFormatError(`not an ONNX model, or a truncated one${kindNote(bytes)}: ${errorText(cause)}`, {
      cause,
    });
  }
}

/** ONNX's own domain has two names. */
export function plainDomain(domain = ''): string {
  return domain === 'ai.onnx' ? '' : domain;
}
