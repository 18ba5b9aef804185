import { GraphError } from '../../errors.ts';
import type { Attribute, Graph, GraphNode, Value } from '../graph.ts';
import { ONNX_DATA_TYPE, type Shape, type TensorData, type TensorType } from '../types.ts';
import {
  ATTRIBUTE_TYPE,
  type AttributeProto,
  EXTERNAL,
  encodeModelProto,
  type GraphProto,
  MAX_ONNX_BYTES,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './schema.ts';

/** Operator set 18 is the first whose reductions all take their axes as an input; IR 8 is the version it came with. */
const OPSET_VERSION = 18;
const IR_VERSION = 8;
/** What files of this package name as their producer. */
export const PRODUCER = 'iso-diffusion';

/**
 * Writes a graph as an ONNX model (opset 18, IR version 8).
 *
 * @param metadata entries of the file's `metadata_props`; default none.
 * @throws {GraphError} when the model exceeds protobuf's 2 GiB.
 * @example
 * await writeFile('model.onnx', writeOnnx(graph));
 */
export function writeOnnx(graph: Graph, metadata: Readonly<Record<string, string>> = {}): Uint8Array {
  return encodeModel(modelProto(graph, metadata));
}

/** @throws {GraphError} when the model exceeds protobuf's 2 GiB. */
export function encodeModel(model: ModelProto): Uint8Array {
  const bytes = encodeModelProto(model);
  if (bytes.length > MAX_ONNX_BYTES)
    throw new GraphError(`the ONNX model has ${bytes.length} bytes; one file can hold ${MAX_ONNX_BYTES}`);
  return bytes;
}

/** Where a tensor's bytes lie, row-major and little endian, in a file beside the model's. */
export interface ExternalTensor {
  /** The path of the file, from the folder of the model. */
  readonly location: string;
  /** In bytes, as is `length`. */
  readonly offset: number;
  readonly length: number;
}

/** How a graph becomes messages. */
interface WriteOptions {
  /**
   * For onnxruntime's cpu, which computes most float16 nodes in float32 and leaves out the rounding between two of them:
   * results then have digits, and a range, that float16 has not. A Reshape after each of these nodes, which has a float16
   * kernel and copies nothing, keeps the rounding. Default false.
   */
  readonly roundsFloat16?: boolean | undefined;
  /** Where the contents of stored constants lie, by their names. Default: there are none. */
  readonly external?: ReadonlyMap<string, ExternalTensor> | undefined;
}

/** How nodes are written: the names of values, whether results in float16 are rounded to it, and what lies in files. */
interface Writing extends Required<WriteOptions> {
  readonly names: Names;
}

/** The messages of a graph. The contents of constants are shared, not copied. */
export function modelProto(
  graph: Graph,
  metadata: Readonly<Record<string, string>> = {},
  { roundsFloat16 = false, external = new Map() }: WriteOptions = {},
): ModelProto {
  const domains = [...domainsOf(graph)].filter((domain) => domain !== '');
  return {
    irVersion: IR_VERSION,
    producerName: PRODUCER,
    opsetImport: [{ domain: '', version: OPSET_VERSION }, ...domains.map((domain) => ({ domain, version: 1 }))],
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
    graph: graphProto(graph, { names: outputNames(graph), roundsFloat16, external }),
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
    const computed = withoutIdentity(value);
    if (computed.producer && computed.graph === graph && !names.has(computed)) names.set(computed, name);
  }
  for (const node of graph.nodes) {
    for (const attribute of Object.values(node.attributes))
      if (attribute.kind === 'graph') outputNames(attribute.value, names);
  }
  return names;
}

/** The value that an Identity gives another name: whoever takes the result takes the value itself. */
function withoutIdentity(value: Value): Value {
  let source = value;
  while (source.producer && isIdentity(source.producer)) source = source.producer.inputs[0] ?? source;
  return source;
}

function isIdentity({ opType, domain }: GraphNode): boolean {
  return opType === 'Identity' && domain === '';
}

function graphProto(graph: Graph, writing: Writing): GraphProto {
  const { names, roundsFloat16, external } = writing;
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
    node: [...graph.nodes.filter((node) => !isIdentity(node)).flatMap((node) => nodeProtos(node, writing)), ...renames],
    initializer: [
      ...graph.constants.map((value) => constantProto(value, external?.get(value.name))),
      ...(roundsFloat16 && !graph.parent ? sameShapes(graph) : []),
    ],
    input: graph.inputs.map((value) => valueInfo(value.name, value)),
    output: graph.outputs.map(({ name, value }) => valueInfo(name, value)),
  };
}

function nameOf(value: Value, names: Names): string {
  const computed = withoutIdentity(value);
  return names.get(computed) ?? computed.name;
}

function nodeProtos(node: GraphNode, writing: Writing): NodeProto[] {
  const { names, roundsFloat16 } = writing;
  const proto = nodeProto(node, writing);
  if (!roundsFloat16) return [proto];
  const isHalf = node.outputs.map(({ dtype }) => dtype === 'float16');
  const exact = node.outputs.map((output, i) => `${nameOf(output, names)}${isHalf[i] ? '/exact' : ''}`);
  const rounded = node.outputs.flatMap((output, i) =>
    isHalf[i]
      ? [
          {
            opType: 'Reshape',
            name: `${node.name}/rounded_${i}`,
            input: [exact[i] ?? '', sameShapeName(output.shape)],
            output: [nameOf(output, names)],
          },
        ]
      : [],
  );
  return [{ ...proto, output: exact }, ...rounded];
}

/** The constant that reshapes a tensor to the shape that it has: a 0 copies an axis. */
const sameShapeName = ({ length }: Shape) => `same_shape/${length}`;

function sameShapes(graph: Graph): TensorProto[] {
  const outputs = allNodes(graph).flatMap((node) => node.outputs);
  const ranks = new Set(outputs.filter(({ dtype }) => dtype === 'float16').map(({ shape }) => shape.length));
  return [...ranks].map((rank) =>
    tensorProto({ dtype: 'int64', shape: [rank] }, new BigInt64Array(rank), sameShapeName(Array<number>(rank))),
  );
}

/** The nodes of a graph and of the bodies in it. */
function allNodes(graph: Graph): GraphNode[] {
  return graph.nodes.flatMap((node) => [
    node,
    ...Object.values(node.attributes).flatMap((attribute) =>
      attribute.kind === 'graph' ? allNodes(attribute.value) : [],
    ),
  ]);
}

function nodeProto(node: GraphNode, writing: Writing): NodeProto {
  const { names } = writing;
  return {
    name: node.name,
    opType: node.opType,
    domain: node.domain,
    input: node.inputs.map((input) => (input ? nameOf(input, names) : '')),
    output: node.outputs.map((output) => nameOf(output, names)),
    attribute: Object.entries(node.attributes).map(([name, attribute]) => attributeProto(name, attribute, writing)),
  };
}

function attributeProto(name: string, attribute: Attribute, writing: Writing): AttributeProto {
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
      return { name, type, g: graphProto(attribute.value, writing) };
  }
}

function constantProto(value: Value, external: ExternalTensor | undefined): TensorProto {
  if (value.data || !external) return tensorProto(value, value.data, value.name);
  const { location, offset, length } = external;
  return {
    ...tensorHeader(value, value.name),
    externalData: Object.entries({ location, offset, length }).map(([key, entry]) => ({ key, value: String(entry) })),
    dataLocation: EXTERNAL,
  };
}

function tensorProto(type: TensorType, data: TensorData | undefined, name?: string): TensorProto {
  if (!data) throw new GraphError(`constant '${name}' has no contents`);
  const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { ...tensorHeader(type, name), rawData };
}

function tensorHeader({ dtype, shape }: TensorType, name: string | undefined): TensorProto {
  return { name, dims: shape.map(Number), dataType: ONNX_DATA_TYPE[dtype] };
}

function valueInfo(name: string, value: Value): ValueInfoProto {
  return { name, type: { tensorType: { elemType: ONNX_DATA_TYPE[value.dtype], shape: shapeProto(value.shape) } } };
}

function shapeProto(shape: Shape): { dim: { dimValue?: number; dimParam?: string }[] } {
  return { dim: shape.map((dim) => (typeof dim === 'number' ? { dimValue: dim } : { dimParam: dim })) };
}
