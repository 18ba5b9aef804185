/** How tfjs computes the ops of a graph: where a kernel is defined, and what several kernels need. */
import { GraphError } from '../../errors.ts';
import type { GraphNode, Value } from '../../graph/graph.ts';
import { InferenceContext, opName } from '../../graph/registry.ts';
import { type DType, fixedShape } from '../../graph/types.ts';
import type { TfDType, Tfjs, TfTensor } from './tf-module.ts';

/** Computes a node's outputs from its inputs; an omitted optional input is undefined. */
export type TfKernel = (tf: Tfjs, inputs: readonly (TfTensor | undefined)[]) => TfTensor | TfTensor[];

interface TfOp {
  /** Reads what is fixed about a node once. @throws {GraphError} for what tfjs cannot compute or differentiate. */
  compile(node: GraphNode): TfKernel;
  /** The number of leading inputs that are tensors; `compile` reads those after them, which are constants. */
  readonly tensorInputs: number;
}

const ops = new Map<string, TfOp>();

/** Registers how tfjs computes an ONNX op; ops outside ONNX's own domain as `domain:opType`. */
export function defineTfOp(opType: string, compile: (node: GraphNode) => TfKernel): void {
  ops.set(opType, { compile, tensorInputs: Number.POSITIVE_INFINITY });
}

/** As `defineTfOp`, for an op of one tensor `x`; inputs after it are constants, which `compile` reads. */
export function defineTfOpOfOne(
  opType: string,
  compile: (node: GraphNode) => (tf: Tfjs, x: TfTensor) => TfTensor | TfTensor[],
): void {
  const compileOfOne = (node: GraphNode): TfKernel => {
    const kernel = compile(node);
    return (tf, inputs) => kernel(tf, given(inputs, 0));
  };
  ops.set(opType, { compile: compileOfOne, tensorInputs: 1 });
}

export function findTfOp(node: GraphNode): TfOp | undefined {
  return ops.get(opName(node));
}

/** What the helpers of src/graph/ops take to read a node's attributes and constant inputs. */
export function contextOf(node: GraphNode): InferenceContext {
  return new InferenceContext(`node '${node.name}'`, node.inputs, node.attributes, node.outputs.length);
}

/** The shape of a node's output, known because training graphs have a fixed batch size. */
export function outputShape(node: GraphNode, index = 0): number[] {
  return fixedShape(node.outputs[index]?.shape ?? []);
}

/** The shape of a node's input. */
export function inputShape(node: GraphNode, index = 0): number[] {
  return fixedShape(node.inputs[index]?.shape ?? []);
}

/** The input at `index`, which graph construction has checked to be there. */
export function given(inputs: readonly (TfTensor | undefined)[], index: number): TfTensor {
  const input = inputs[index];
  if (input) return input;
  throw new RangeError(`input ${index} of a node is missing`);
}

const dtypes: Partial<Record<DType, TfDType>> = {
  float32: 'float32',
  int32: 'int32',
  int64: 'int32',
  uint8: 'int32',
  bool: 'bool',
};

/** The dtype in which tfjs computes an ONNX one. @throws {GraphError} for float16 and float64, which it has not. */
export function tfDType(dtype: DType, where: string): TfDType {
  const found = dtypes[dtype];
  if (found) return found;
  throw new GraphError(`${where}: tfjs has no ${dtype}`);
}

/** A constant of the graph as a tensor. @throws {GraphError} when tfjs cannot hold it. */
export function constantTensor(tf: Tfjs, { name, dtype, shape, data }: Value): TfTensor {
  const type = tfDType(dtype, `constant '${name}'`);
  if (data instanceof BigInt64Array || (type === 'int32' && data))
    return tf.tensor(
      Int32Array.from<number | bigint>(data, (value) => asInt32(value, name)),
      fixedShape(shape),
      type,
    );
  if (data instanceof Float32Array || data instanceof Uint8Array) return tf.tensor(data, fixedShape(shape), type);
  throw new GraphError(`constant '${name}' has no data`);
}

function asInt32(value: number | bigint, name: string): number {
  const number = Number(value);
  if (number === (number | 0)) return number;
  throw new GraphError(`constant '${name}' holds ${value}, but the integers of tfjs have 32 bits`);
}

/**
 * Broadcasts x to `shape`. Floats are added to zeros, an op with a gradient for every rank. The gradient of tfjs's own
 * `broadcastTo` ends at rank 4, and takes a slice for each repetition.
 */
export function expand(tf: Tfjs, x: TfTensor, shape: readonly number[]): TfTensor {
  if (x.shape.length === shape.length && x.shape.every((dim, axis) => dim === shape[axis])) return x;
  return x.dtype === 'float32' ? tf.add(x, tf.zeros([...shape])) : tf.broadcastTo(x, [...shape]);
}

/** `a` where the condition is true, `b` elsewhere. tfjs differentiates this for equal shapes only. */
export function select(tf: Tfjs, condition: TfTensor, a: TfTensor, b: TfTensor, shape: readonly number[]): TfTensor {
  return tf.where(expand(tf, condition, shape), expand(tf, a, shape), expand(tf, b, shape));
}

/**
 * Computes what has no derivative, such as a comparison. tfjs demands a gradient function of every kernel between
 * parameters and loss, and has none for these.
 */
export function withoutGradient(tf: Tfjs, inputs: readonly TfTensor[], compute: () => TfTensor): TfTensor {
  const severed = tf.customGrad(() => ({
    value: compute(),
    gradFunc: () => inputs.map(({ shape }) => tf.zeros(shape)),
  }));
  return severed(...inputs);
}

/** Adds zeros around each axis, or cuts where the count is negative. */
export function padOrCrop(
  tf: Tfjs,
  x: TfTensor,
  pads: readonly (readonly [before: number, after: number])[],
  value = 0,
): TfTensor {
  let result = x;
  if (pads.some(([before, after]) => before < 0 || after < 0)) {
    const begin = pads.map(([before]) => Math.max(0, -before));
    const size = pads.map(([, after], axis) => (x.shape[axis] ?? 0) - (begin[axis] ?? 0) - Math.max(0, -after));
    result = tf.slice(result, begin, size);
  }
  if (pads.every(([before, after]) => before <= 0 && after <= 0)) return result;
  return tf.pad(
    result,
    pads.map(([before, after]) => [Math.max(0, before), Math.max(0, after)]),
    value,
  );
}

/** `padOrCrop` for images with the channels last: counts for top, left, bottom and right. */
export function padOrCropImages(
  tf: Tfjs,
  images: TfTensor,
  [top, left, bottom, right]: readonly [number, number, number, number],
  value?: number,
): TfTensor {
  const none = [0, 0] as const;
  return padOrCrop(tf, images, [none, [top, bottom], [left, right], none], value);
}

/**
 * tfjs convolves and pools with the channels last: TensorFlow's CPU kernels support nothing else. Between two convolutions
 * of a U-Net stands a group normalisation, which reshapes pixels of NCHW, so these transposes never cancel.
 */
export const toNhwc = (tf: Tfjs, x: TfTensor) => tf.transpose(x, [0, 2, 3, 1]);
export const toNchw = (tf: Tfjs, x: TfTensor) => tf.transpose(x, [0, 3, 1, 2]);
