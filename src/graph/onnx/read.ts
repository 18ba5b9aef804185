import { GraphError, OnnxFormatError } from '../../errors.ts';
import { type Attribute, Graph, type Value } from '../graph.ts';
import { applyOp, findOp } from '../op-registry.ts';
import '../ops/index.ts';
import {
  arrayFromBytes,
  bytesPerElement,
  type Dim,
  type DType,
  formatShape,
  type TensorData,
  toTensorData,
} from '../tensor-type.ts';
import { dtypeFromOnnx } from './data-type.ts';
import {
  ATTRIBUTE_TYPE,
  type AttributeProto,
  type GraphProto,
  ModelMessage,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './schema.ts';

/** The operator sets whose ops mean what `src/graph/ops` implements. */
const OLDEST_OPSET = 13;
const NEWEST_OPSET = 21;
const MAX_ELEMENTS = 2 ** 31;
const MAX_RANK = 16;

/** From an input's name and its shape in the file to the shape it shall have. */
export type InputShapes = (name: string, declared: readonly Dim[]) => readonly Dim[];

export interface ReadOnnxOptions {
  /**
   * Fixes the lengths of symbolic axes, which shape inference cannot always follow. Must agree with the file's shape in
   * rank and in every fixed length; default: the file's shapes.
   */
  readonly inputShapes?: InputShapes;
}

/**
 * Reads an ONNX model as a `Graph`: shapes and dtypes are inferred anew, so that gradients can be built on it.
 *
 * @throws {OnnxFormatError} when the bytes are no ONNX model, are damaged, contradict themselves, keep tensors in
 * other files, or use an operator set or ops that are not supported (one error names all of them).
 */
export function readOnnx(bytes: Uint8Array, options: ReadOnnxOptions = {}): Graph {
  const model = decode(bytes);
  checkOperatorSets(model);
  if (!model.graph) throw new OnnxFormatError('the ONNX model holds no graph');
  refuseUnknownOps(model.graph);
  try {
    return readGraph(model.graph, options.inputShapes ?? ((_name, declared) => declared));
  } catch (cause) {
    if (!(cause instanceof GraphError)) throw cause;
    throw new OnnxFormatError(`the ONNX model contradicts itself: ${cause.message}`, { cause });
  }
}

function decode(bytes: Uint8Array): ModelProto {
  try {
    return ModelMessage.toObject(ModelMessage.decode(bytes), {
      longs: Number,
      arrays: false,
      defaults: false,
    }) as ModelProto;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new OnnxFormatError(`not an ONNX model, or a truncated one: ${reason}`, { cause });
  }
}

function checkOperatorSets(model: ModelProto): void {
  const version = model.opsetImport?.find(
    ({ domain = '' }) => domain === '' || domain === 'ai.onnx',
  )?.version;
  if (version === undefined || version < OLDEST_OPSET || version > NEWEST_OPSET) {
    throw new OnnxFormatError(
      `operator set ${version ?? 'missing'} is not supported: export the model with opset ${OLDEST_OPSET} to ${NEWEST_OPSET}`,
    );
  }
}

function refuseUnknownOps({ node: nodes = [] }: GraphProto): void {
  const unknown = new Set(
    nodes
      .filter(({ opType = '', domain = '' }) => opType === 'Loop' || !findOp(opType, plainDomain(domain)))
      .map(({ opType, domain }) => (plainDomain(domain) ? `${domain}:${opType}` : `${opType}`)),
  );
  if (unknown.size > 0)
    throw new OnnxFormatError(
      `the ONNX model uses ops that are not supported: ${[...unknown].sort().join(', ')}`,
    );
}

function plainDomain(domain = ''): string {
  return domain === 'ai.onnx' ? '' : domain;
}

function readGraph(proto: GraphProto, inputShapes: InputShapes): Graph {
  const graph = new Graph(proto.name || 'graph');
  const values = new Map<string, Value>();
  for (const tensor of proto.initializer ?? []) {
    const name = requireName(tensor.name, 'an initializer', values);
    const { dtype, shape, data } = readTensor(tensor, `initializer '${name}'`);
    values.set(name, graph.constant(dtype, shape, data, name));
  }
  for (const input of proto.input ?? []) {
    // Before IR version 4 initializers had to be listed as inputs too.
    if (values.get(input.name ?? '')?.data) continue;
    const name = requireName(input.name, 'an input', values);
    const { dtype, shape } = readType(input, name);
    values.set(name, graph.input(name, dtype, fixShape(shape, inputShapes(name, shape), name)));
  }
  for (const node of proto.node ?? []) readNode(graph, node, values);
  for (const { name = '' } of proto.output ?? []) {
    const value = values.get(name);
    if (!value) throw new OnnxFormatError(`the output '${name}' is computed by no node`);
    graph.output(name, value);
  }
  if (graph.outputs.length === 0) throw new OnnxFormatError('the ONNX model has no outputs');
  return graph;
}

function fixShape(declared: readonly Dim[], wanted: readonly Dim[], name: string): readonly Dim[] {
  const agrees =
    declared.length === wanted.length &&
    declared.every((dim, axis) => typeof dim === 'string' || dim === wanted[axis]);
  if (agrees) return wanted;
  throw new OnnxFormatError(
    `the input '${name}' is ${formatShape(declared)} in the ONNX model, which does not allow ${formatShape(wanted)}`,
  );
}

function requireName(name: string | undefined, what: string, values: ReadonlyMap<string, Value>): string {
  if (!name) throw new OnnxFormatError(`${what} of the ONNX model has no name`);
  if (values.has(name)) throw new OnnxFormatError(`the ONNX model defines '${name}' twice`);
  return name;
}

function readNode(graph: Graph, node: NodeProto, values: Map<string, Value>): void {
  const where = `node '${node.name ?? ''}' (op ${node.opType})`;
  const inputs = (node.input ?? []).map((name) => {
    if (name === '') return null;
    const value = values.get(name);
    if (!value) throw new OnnxFormatError(`${where}: its input '${name}' does not exist before it`);
    return value;
  });
  const outputNames = node.output ?? [];
  for (const name of outputNames) if (name !== '') requireName(name, `an output of ${where}`, values);
  if (outputNames.length === 0 || outputNames.length > 4096)
    throw new OnnxFormatError(`${where} has ${outputNames.length} outputs`);
  const attributes = Object.fromEntries(
    (node.attribute ?? []).map((attribute) => [attribute.name ?? '', readAttribute(attribute, where)]),
  );
  const outputs = applyOp(node.opType ?? '', inputs, {
    attributes,
    domain: plainDomain(node.domain),
    outputCount: outputNames.length,
    outputNames,
    graph,
  });
  if (outputs.length < outputNames.length)
    throw new OnnxFormatError(
      `${where} has ${outputNames.length} outputs, but the op gives ${outputs.length}`,
    );
  outputNames.forEach((name, index) => {
    const output = outputs[index];
    if (name !== '' && output) values.set(name, output);
  });
}

function readAttribute(proto: AttributeProto, where: string): Attribute {
  switch (proto.type) {
    case ATTRIBUTE_TYPE.float:
      return { kind: 'float', value: proto.f ?? 0 };
    case ATTRIBUTE_TYPE.int:
      return { kind: 'int', value: proto.i ?? 0 };
    case ATTRIBUTE_TYPE.string:
      return { kind: 'string', value: new TextDecoder().decode(proto.s) };
    case ATTRIBUTE_TYPE.floats:
      return { kind: 'floats', value: proto.floats ?? [] };
    case ATTRIBUTE_TYPE.ints:
      return { kind: 'ints', value: proto.ints ?? [] };
    case ATTRIBUTE_TYPE.tensor:
      return { kind: 'tensor', value: readTensor(proto.t ?? {}, `${where}, attribute '${proto.name}'`) };
    default:
      throw new OnnxFormatError(
        `${where}: attribute '${proto.name}' is of type ${proto.type ?? 'unknown'}, which is not supported`,
      );
  }
}

function readType(info: ValueInfoProto, name: string): { dtype: DType; shape: Dim[] } {
  const type = info.type?.tensorType;
  const dtype = dtypeFromOnnx(type?.elemType);
  if (!dtype)
    throw new OnnxFormatError(
      `the input '${name}' is of element type ${type?.elemType ?? 'unknown'}, which is not supported`,
    );
  const dims = type?.shape?.dim ?? [];
  checkRank(dims.length, `the input '${name}'`);
  const shape = dims.map(({ dimValue, dimParam }, axis) =>
    dimValue === undefined ? dimParam || `${name}_axis_${axis}` : dimValue,
  );
  checkDims(shape, `the input '${name}'`);
  return { dtype, shape };
}

function readTensor(proto: TensorProto, where: string): { dtype: DType; shape: number[]; data: TensorData } {
  const dtype = dtypeFromOnnx(proto.dataType);
  if (!dtype)
    throw new OnnxFormatError(
      `${where} is of data type ${proto.dataType ?? 'unknown'}, which is not supported`,
    );
  if (proto.dataLocation === 1)
    throw new OnnxFormatError(
      `${where} keeps its data in another file, which is not supported: save the model as one file`,
    );
  const shape = proto.dims ?? [];
  checkRank(shape.length, where);
  const count = checkDims(shape, where);
  const data = proto.rawData
    ? readRawData(dtype, proto.rawData, count, where)
    : readTypedData(dtype, proto, where);
  if (data.length !== count)
    throw new OnnxFormatError(
      `${where} of shape ${formatShape(shape)} should hold ${count} values, but holds ${data.length}`,
    );
  return { dtype, shape, data };
}

function readRawData(dtype: DType, raw: Uint8Array, count: number, where: string): TensorData {
  if (raw.length !== count * bytesPerElement(dtype)) {
    throw new OnnxFormatError(
      `${where} should hold ${count * bytesPerElement(dtype)} bytes, but holds ${raw.length}`,
    );
  }
  return arrayFromBytes(dtype, raw);
}

function readTypedData(dtype: DType, proto: TensorProto, where: string): TensorData {
  switch (dtype) {
    case 'float32':
      return toTensorData(dtype, proto.floatData ?? []);
    case 'float64':
      return toTensorData(dtype, proto.doubleData ?? []);
    case 'int64': {
      const values = proto.int64Data ?? [];
      if (!values.every(Number.isSafeInteger))
        throw new OnnxFormatError(`${where} holds integers beyond 2^53`);
      return toTensorData(dtype, values);
    }
    case 'float16':
      return Uint16Array.from(proto.int32Data ?? []);
    default:
      return toTensorData(dtype, proto.int32Data ?? []);
  }
}

function checkRank(rank: number, where: string): void {
  if (rank > MAX_RANK) throw new OnnxFormatError(`${where} has ${rank} axes; at most ${MAX_RANK} are read`);
}

/** The product of the known lengths. */
function checkDims(shape: readonly Dim[], where: string): number {
  let count = 1;
  for (const dim of shape) {
    if (typeof dim === 'string') continue;
    count *= dim;
    if (Number.isSafeInteger(dim) && dim >= 0 && count <= MAX_ELEMENTS) continue;
    throw new OnnxFormatError(
      `${where} has the shape ${formatShape(shape)}, which is impossible or too large`,
    );
  }
  return count;
}
