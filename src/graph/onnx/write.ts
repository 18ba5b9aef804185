import { GraphError } from '../../errors.ts';
import type { Attribute, Graph, GraphNode, Value } from '../graph.ts';
import type { Shape, TensorData, TensorType } from '../types.ts';
import { ONNX_DATA_TYPE } from '../types.ts';
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

/** Operator set 18 is the first whose reductions all take their axes as an input; IR 8 is the version it came with. */
export const OPSET_VERSION = 18;
export const IR_VERSION = 8;
/** protobuf, and with it a single ONNX file, ends at 2 GiB. */
const MAX_MODEL_BYTES = 2 ** 31 - 1;

/**
 * Serialises a graph as an ONNX model (opset 18, IR version 8).
 *
 * @param metadata key-value pairs for `metadata_props`.
 * @throws {GraphError} when the model exceeds protobuf's 2 GiB.
 */
export function writeOnnx(graph: Graph, metadata: Readonly<Record<string, string>> = {}): Uint8Array {
  return encodeModel(modelProto(graph, metadata));
}

/** @throws {GraphError} when the model exceeds protobuf's 2 GiB. */
export function encodeModel(model: ModelProto): Uint8Array {
  const bytes = ModelMessage.encode(ModelMessage.fromObject(model)).finish();
  if (bytes.length > MAX_MODEL_BYTES)
    throw new GraphError(`the ONNX model has ${bytes.length} bytes; one file can hold ${MAX_MODEL_BYTES}`);
  return bytes;
}

/** The messages of a graph. The contents of constants are shared, not copied. */
export function modelProto(graph: Graph, metadata: Readonly<Record<string, string>> = {}): ModelProto {
  const domains = [...domainsOf(graph)].filter((domain) => domain !== '');
  return {
    irVersion: IR_VERSION,
    producerName: 'iso-diffusion',
    opsetImport: [
      { domain: '', version: OPSET_VERSION },
      ...domains.map((domain) => ({ domain, version: 1 })),
    ],
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
    graph: graphProto(graph, outputNames(graph)),
  };
}

function domainsOf(graph: Graph, found = new Set<string>()): Set<string> {
  for (const node of graph.nodes) {
    found.add(node.domain);
    for (const attribute of Object.values(node.attributes))
      if (attribute.kind === 'graph') domainsOf(attribute.value, found);
  }
  return found;
}

/** The names that values are written under. */
type Names = ReadonlyMap<Value, string>;

/**
 * A computed value that is an output is written under the output's name. (An Identity node that renames it would be a
 * copy of the whole tensor each time round a Loop.)
 */
function outputNames(graph: Graph, names = new Map<Value, string>()): Map<Value, string> {
  for (const { name, value } of graph.outputs) {
    if (value.producer && value.graph === graph && !names.has(value)) names.set(value, name);
  }
  for (const node of graph.nodes) {
    for (const attribute of Object.values(node.attributes))
      if (attribute.kind === 'graph') outputNames(attribute.value, names);
  }
  return names;
}

function graphProto(graph: Graph, names: Names): GraphProto {
  const renames = graph.outputs
    .filter(({ name, value }) => name !== nameOf(value, names))
    .map(({ name, value }) => ({
      opType: 'Identity',
      name: `output/${name}`,
      input: [nameOf(value, names)],
      output: [name],
    }));
  return {
    name: graph.name,
    node: [...graph.nodes.map((node) => nodeProto(node, names)), ...renames],
    initializer: graph.constants.map((value) => tensorProto(value, value.data, value.name)),
    input: graph.inputs.map((value) => valueInfo(value.name, value)),
    output: graph.outputs.map(({ name, value }) => valueInfo(name, value)),
  };
}

function nameOf(value: Value, names: Names): string {
  return names.get(value) ?? value.name;
}

function nodeProto(node: GraphNode, names: Names): NodeProto {
  return {
    name: node.name,
    opType: node.opType,
    domain: node.domain,
    input: node.inputs.map((input) => (input ? nameOf(input, names) : '')),
    output: node.outputs.map((output) => nameOf(output, names)),
    attribute: Object.entries(node.attributes).map(([name, attribute]) =>
      attributeProto(name, attribute, names),
    ),
  };
}

function attributeProto(name: string, attribute: Attribute, names: Names): AttributeProto {
  const type = ATTRIBUTE_TYPE[attribute.kind];
  switch (attribute.kind) {
    case 'int':
      return { name, type, i: attribute.value };
    case 'float':
      return { name, type, f: attribute.value };
    case 'string':
      return { name, type, s: new TextEncoder().encode(attribute.value) };
    case 'ints':
      return { name, type, ints: [...attribute.value] };
    case 'floats':
      return { name, type, floats: [...attribute.value] };
    case 'tensor':
      return { name, type, t: tensorProto(attribute.value, attribute.value.data) };
    case 'graph':
      return { name, type, g: graphProto(attribute.value, names) };
  }
}

function tensorProto(type: TensorType, data: TensorData | undefined, name?: string): TensorProto {
  if (!data) throw new GraphError(`constant '${name}' has no contents`);
  return {
    name,
    dims: type.shape.map(Number),
    dataType: ONNX_DATA_TYPE[type.dtype],
    rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  };
}

function valueInfo(name: string, value: Value): ValueInfoProto {
  return {
    name,
    type: { tensorType: { elemType: ONNX_DATA_TYPE[value.dtype], shape: shapeProto(value.shape) } },
  };
}

function shapeProto(shape: Shape): { dim: { dimValue?: number; dimParam?: string }[] } {
  return { dim: shape.map((dim) => (typeof dim === 'number' ? { dimValue: dim } : { dimParam: dim })) };
}
