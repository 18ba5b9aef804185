import { errorText, OnnxFormatError } from '../../errors.ts';
import { kindNote } from '../../files/known-files.ts';
import { choice, decodeMessage, encodeMessage, type FieldsOf, field, list } from '../../files/protobuf.ts';

/** protobuf, and with it a single ONNX file, ends at 2 GiB. */
export const MAX_ONNX_BYTES = 2 ** 31 - 1;

/** The messages as plain objects. Decoding leaves out fields that were not set. */
export interface ModelProto {
  irVersion?: number;
  producerName?: string;
  producerVersion?: string;
  graph?: GraphProto;
  opsetImport?: OperatorSetProto[];
  metadataProps?: EntryProto[];
}
interface OperatorSetProto {
  domain?: string;
  version?: number;
}
export interface EntryProto {
  key?: string;
  value?: string;
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
  /** Where the bytes lie, with the keys location, offset and length; used where `dataLocation` is `EXTERNAL`. */
  externalData?: EntryProto[] | undefined;
  dataLocation?: number;
}
/** The `dataLocation` of a tensor whose bytes lie in another file. */
export const EXTERNAL = 1;
export interface ValueInfoProto {
  name?: string | undefined;
  type?: TypeProto;
}
interface TypeProto {
  tensorType?: TensorTypeProto;
  sequenceType?: SequenceTypeProto;
}
interface SequenceTypeProto {
  elemType?: TypeProto | undefined;
}
interface TensorTypeProto {
  elemType?: number | undefined;
  shape?: TensorShapeProto;
}
interface TensorShapeProto {
  dim?: DimensionProto[] | undefined;
}
interface DimensionProto {
  dimValue?: number;
  dimParam?: string;
}

/*
 * The messages of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, Apache-2.0) that this package
 * writes and reads.
 */

const ENTRY: FieldsOf<EntryProto> = { key: field(1, 'string'), value: field(2, 'string') };

const DIMENSION: FieldsOf<DimensionProto> = { dimValue: choice(1, 'int64'), dimParam: choice(2, 'string') };
const TENSOR_SHAPE: FieldsOf<TensorShapeProto> = { dim: list(1, () => DIMENSION) };
const TENSOR_TYPE: FieldsOf<TensorTypeProto> = { elemType: field(1, 'int32'), shape: field(2, () => TENSOR_SHAPE) };
const SEQUENCE_TYPE: FieldsOf<SequenceTypeProto> = { elemType: field(1, () => TYPE) };
const TYPE: FieldsOf<TypeProto> = {
  tensorType: field(1, () => TENSOR_TYPE),
  sequenceType: field(4, () => SEQUENCE_TYPE),
};
const VALUE_INFO: FieldsOf<ValueInfoProto> = { name: field(1, 'string'), type: field(2, () => TYPE) };

const TENSOR: FieldsOf<TensorProto> = {
  dims: list(1, 'int64'),
  dataType: field(2, 'int32'),
  floatData: list(4, 'float'),
  int32Data: list(5, 'int32'),
  int64Data: list(7, 'int64'),
  name: field(8, 'string'),
  rawData: field(9, 'bytes'),
  doubleData: list(10, 'double'),
  externalData: list(13, () => ENTRY),
  dataLocation: field(14, 'int32'),
};

const ATTRIBUTE: FieldsOf<AttributeProto> = {
  name: field(1, 'string'),
  f: field(2, 'float'),
  i: field(3, 'int64'),
  s: field(4, 'bytes'),
  t: field(5, () => TENSOR),
  g: field(6, () => GRAPH),
  floats: list(7, 'float'),
  ints: list(8, 'int64'),
  strings: list(9, 'bytes'),
  type: field(20, 'int32'),
};

const NODE: FieldsOf<NodeProto> = {
  input: list(1, 'string'),
  output: list(2, 'string'),
  name: field(3, 'string'),
  opType: field(4, 'string'),
  attribute: list(5, () => ATTRIBUTE),
  domain: field(7, 'string'),
};

const GRAPH: FieldsOf<GraphProto> = {
  node: list(1, () => NODE),
  name: field(2, 'string'),
  initializer: list(5, () => TENSOR),
  input: list(11, () => VALUE_INFO),
  output: list(12, () => VALUE_INFO),
};

const OPERATOR_SET: FieldsOf<OperatorSetProto> = { domain: field(1, 'string'), version: field(2, 'int64') };

const MODEL: FieldsOf<ModelProto> = {
  irVersion: field(1, 'int64'),
  producerName: field(2, 'string'),
  producerVersion: field(3, 'string'),
  graph: field(7, () => GRAPH),
  opsetImport: list(8, () => OPERATOR_SET),
  metadataProps: list(14, () => ENTRY),
};

/*
 * The messages as bytes. What decodes throws a RangeError where the bytes are none.
 */

export const encodeModelProto = (model: ModelProto): Uint8Array<ArrayBuffer> => encodeMessage(MODEL, model);
export const decodeModelProto = (bytes: Uint8Array): ModelProto => decodeMessage(MODEL, bytes);
export const encodeTensorProto = (tensor: TensorProto): Uint8Array<ArrayBuffer> => encodeMessage(TENSOR, tensor);
export const decodeTensorProto = (bytes: Uint8Array): TensorProto => decodeMessage(TENSOR, bytes);
export const decodeEntryProto = (bytes: Uint8Array): EntryProto => decodeMessage(ENTRY, bytes);

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
    return decodeModelProto(bytes);
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
