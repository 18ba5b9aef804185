import { GraphError } from '../../../errors.ts';
import type { Attributes, Graph, Value } from '../../graph.ts';
import { allocate, type DType, elementCount, type TensorData, type TensorType, toTensorData } from '../../types.ts';

/** A tensor whose contents are known while a file is read, and which is not part of a graph yet. */
export interface KnownTensor extends TensorType {
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** What a name in an ONNX file stands for. */
export type Operand = Value | KnownTensor;

export function isValue(operand: Operand): operand is Value {
  return 'graph' in operand;
}

/** The operand's contents, where they are known. */
export function knownTensor(operand: Operand): KnownTensor | undefined {
  if (!operand.data || operand.shape.some((dim) => typeof dim === 'string')) return undefined;
  return { dtype: operand.dtype, shape: operand.shape.map(Number), data: operand.data };
}

/** The elements as numbers, in order; INT64_MAX, with which exporters say "to the end", becomes 2^63. */
export function numbersOf({ data }: { readonly data: TensorData }): number[] {
  return Array.from<number | bigint, number>(data, Number);
}

const INT64_LIMIT = 2 ** 63;

/** A tensor from numbers, rounded or cut to `dtype` as a cast does. */
export function tensorOf(dtype: DType, shape: readonly number[], values: ArrayLike<number>): KnownTensor {
  if (dtype === 'int64') return { dtype, shape, data: BigInt64Array.from(Array.from(values), toInt64) };
  if (dtype === 'bool') return { dtype, shape, data: Uint8Array.from(Array.from(values), (x) => (x ? 1 : 0)) };
  if (dtype === 'float16') return { dtype, shape, data: toTensorData(dtype, Array.from(values)) };
  const data = allocate(dtype, elementCount(shape)) as Float32Array;
  data.set(dtype === 'float32' || dtype === 'float64' ? values : Array.from(values, Math.trunc));
  return { dtype, shape, data };
}

/** Numbers beyond int64 are clamped to it; only INT64_MAX and INT64_MIN become so large as numbers. */
function toInt64(value: number): bigint {
  if (value >= INT64_LIMIT) return 2n ** 63n - 1n;
  if (value <= -INT64_LIMIT) return -(2n ** 63n);
  return BigInt(Math.trunc(value));
}

/** Row-major strides. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--)
    strides[axis] = (strides[axis + 1] ?? 1) * (shape[axis + 1] ?? 1);
  return strides;
}

/**
 * A tensor whose elements are picked from another.
 *
 * @param at from an output position to the index of the element in `source.data`.
 */
export function pick(
  source: KnownTensor,
  shape: readonly number[],
  at: (position: readonly number[]) => number,
): KnownTensor {
  const data = allocate(source.dtype, elementCount(shape));
  const position = shape.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    data[i] = source.data[at(position)] ?? 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      position[axis] = (position[axis] ?? 0) + 1;
      if ((position[axis] ?? 0) < (shape[axis] ?? 0)) break;
      position[axis] = 0;
    }
  }
  return { dtype: source.dtype, shape, data };
}

/** For `pick`: the index of a position in `source` after broadcasting. */
export function broadcastIndex(source: KnownTensor): (position: readonly number[]) => number {
  const strides = stridesOf(source.shape).map((stride, axis) => (source.shape[axis] === 1 ? 0 : stride));
  return (position) => {
    const lead = position.length - strides.length;
    return strides.reduce((sum, stride, axis) => sum + stride * (position[axis + lead] ?? 0), 0);
  };
}

/** One node of an ONNX file, and what its inputs stand for. */
export interface NodeContext {
  /** The node, to begin an error with: `node 'pad' (op Pad)`. */
  readonly where: string;
  readonly opType: string;
  readonly inputs: readonly (Operand | null)[];
  readonly attributes: Attributes;
  /** The operator set that defines the node. */
  readonly opset: number;
  readonly outputCount: number;
  /** The graph that nodes are added to. */
  readonly target: Graph;
  /** The operand as a value of `target`; a known tensor becomes a constant there. */
  materialise(operand: Operand): Value;
}

/** Expresses a node of any operator set by the ops of `src/graph/ops`, which follow opset 18. */
export type LoweringRule = (context: NodeContext) => readonly Operand[];

/** Computes a node whose inputs are known; undefined where that is left to the runtime. */
export type FoldingRule = (context: NodeContext, inputs: readonly (KnownTensor | null)[]) => KnownTensor[] | undefined;

/** @throws {GraphError} where the input is missing. */
export function operandAt(context: NodeContext, index: number): Operand {
  const operand = context.inputs[index];
  if (operand) return operand;
  throw new GraphError(`${context.where}: input ${index} is missing`);
}

/** Input `index` as a value of the target graph. */
export function valueAt(context: NodeContext, index: number): Value {
  return context.materialise(operandAt(context, index));
}

export function optionalValueAt(context: NodeContext, index: number): Value | undefined {
  const operand = context.inputs[index];
  return operand ? context.materialise(operand) : undefined;
}

/** The numbers of an optional input; undefined where it is left out. @throws {GraphError} where they are not known. */
export function numbersAt(context: NodeContext, index: number, what: string): number[] | undefined {
  const operand = context.inputs[index];
  if (!operand) return undefined;
  const known = knownTensor(operand);
  if (known) return numbersOf(known);
  throw new GraphError(`${context.where}: ${what} must not depend on the model's inputs`);
}

/** An input that older operator sets have as an attribute. */
export function numbersFrom(
  context: NodeContext,
  index: number,
  attribute: string,
  what: string,
): number[] | undefined {
  const given = context.attributes[attribute];
  if (given?.kind === 'ints' || given?.kind === 'floats') return [...given.value];
  if (given?.kind === 'int' || given?.kind === 'float') return [given.value];
  return numbersAt(context, index, what);
}

/** The shape of an operand, which must not have symbolic axes. */
export function fixedShapeOf(context: NodeContext, operand: Operand): number[] {
  if (operand.shape.every((dim) => typeof dim === 'number')) return operand.shape.map(Number);
  throw new GraphError(`${context.where}: the shape [${operand.shape.join(', ')}] of its input must be known here`);
}
