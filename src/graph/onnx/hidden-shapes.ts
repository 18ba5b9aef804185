import { concatenated, ONNX_DATA_TYPE } from '../types.ts';
import { decodeModelProto, encodeModelProto, type GraphProto, type ModelProto, type ValueInfoProto } from './schema.ts';
import { PRODUCER } from './write.ts';

/*
 * Models without what onnxruntime would know of shapes ahead of a run. Its planner compares the shape of every value with
 * those of all values whose memory is free, which takes a microsecond each: of a small U-Net, half of the time to make a
 * session. Ranks are enough for that, so they are hidden too.
 */

/** Ops whose constant operand tells the shape of the result. */
const SHAPING_OPS: ReadonlySet<string | undefined> = new Set(['Reshape', 'Expand']);

/**
 * The shapes of `SHAPING_OPS` as inputs with a default (an initializer under an input's name), which are not taken for
 * constants: onnxruntime then does not know the shapes of what follows.
 */
export function shapesAsInputs({ node = [], initializer = [], input = [] }: GraphProto): ValueInfoProto[] {
  const shapes = new Set(node.filter(({ opType }) => SHAPING_OPS.has(opType)).map((shaping) => shaping.input?.[1]));
  const inputs = new Set(input.map(({ name }) => name));
  return initializer
    .filter(({ name }) => shapes.has(name) && !inputs.has(name))
    .map(({ name }) => ({ name, type: { tensorType: { elemType: ONNX_DATA_TYPE.int64 } } }));
}

/**
 * The bytes of a model with `shapesAsInputs`. Those of other producers, and what is no model, are returned as they are. Nothing
 * is encoded anew: in protobuf, a message that is written twice has the fields of both.
 */
export function withHiddenReshapes(onnx: Uint8Array): Uint8Array {
  const { producerName, graph } = decodedOrNothing(onnx);
  const shapes = producerName === PRODUCER && graph ? shapesAsInputs(graph) : [];
  return shapes.length === 0 ? onnx : concatenated([onnx, encodeModelProto({ graph: { input: shapes } })]);
}

function decodedOrNothing(onnx: Uint8Array): ModelProto {
  try {
    return decodeModelProto(onnx);
  } catch {
    return {};
  }
}
