import {
  ATTRIBUTE_TYPE,
  type AttributeProto,
  encodeModelProto,
  type NodeProto,
  type TensorProto,
} from '../../src/graph/onnx/schema.ts';

export type Contents = { shape: number[]; values: number[]; type?: 'float' | 'int64' | 'bool' };

/** An ONNX file from its parts, as an exporter would write it, without any code of ours but the protobuf schema. */
export function onnxFile(parts: {
  opset: number;
  nodes: NodeProto[];
  inputs: Record<string, (number | string)[]>;
  initializers?: Record<string, Contents> | undefined;
  rawInitializers?: TensorProto[];
  outputs?: string[];
}): Uint8Array {
  const floats = (name: string, dims: (number | string)[] | undefined) => ({
    name,
    type: {
      tensorType: {
        elemType: 1,
        ...(dims
          ? {
              shape: {
                dim: dims.map((dim) => (typeof dim === 'number' ? { dimValue: dim } : { dimParam: dim })),
              },
            }
          : {}),
      },
    },
  });
  const model = {
    irVersion: 8,
    opsetImport: [
      { domain: '', version: parts.opset },
      { domain: 'com.microsoft', version: 1 },
    ],
    graph: {
      name: 'case',
      node: parts.nodes.map((each, i) => ({ name: `node_${i}`, ...each })),
      initializer: [
        ...Object.entries(parts.initializers ?? {}).map(([name, contents]) => tensor(contents, name)),
        ...(parts.rawInitializers ?? []),
      ],
      input: Object.entries(parts.inputs).map(([name, dims]) => floats(name, dims)),
      output: (parts.outputs ?? ['y']).map((name) => floats(name, undefined)),
    },
  };
  return encodeModelProto(model);
}

export function tensor({ shape, values, type = 'float' }: Contents, name = '') {
  if (type === 'float') return { name, dims: shape, dataType: 1, floatData: values };
  if (type === 'bool') return { name, dims: shape, dataType: 9, int32Data: values };
  const raw = BigInt64Array.from(values, (value) => (value >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(value)));
  return { name, dims: shape, dataType: 7, rawData: new Uint8Array(raw.buffer) };
}

/** A node; numbers with a point in `floats`, whole ones as integers. */
export function node(
  opType: string,
  input: string[],
  output: string[],
  attributes: Record<string, number | string | number[] | { float: number } | { floats: number[] } | Contents> = {},
  domain = '',
): NodeProto {
  return { opType, input, output, domain, attribute: Object.entries(attributes).map(attributeProto) };
}

function attributeProto([name, value]: [string, unknown]): AttributeProto {
  if (typeof value === 'number') return { name, type: ATTRIBUTE_TYPE.int, i: value };
  if (typeof value === 'string') return { name, type: ATTRIBUTE_TYPE.string, s: new TextEncoder().encode(value) };
  if (Array.isArray(value)) return { name, type: ATTRIBUTE_TYPE.ints, ints: value };
  const other = value as { float?: number; floats?: number[] };
  if (other.float !== undefined) return { name, type: ATTRIBUTE_TYPE.float, f: other.float };
  if (other.floats) return { name, type: ATTRIBUTE_TYPE.floats, floats: other.floats };
  return { name, type: ATTRIBUTE_TYPE.tensor, t: tensor(value as Contents) };
}

export const ints = (...values: number[]): Contents => ({ shape: [values.length], values, type: 'int64' });
export const scalarInt = (value: number): Contents => ({ shape: [], values: [value], type: 'int64' });
export const floats = (...values: number[]): Contents => ({ shape: [values.length], values });
