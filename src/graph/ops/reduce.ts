import type { Value } from '../graph.ts';
import {
  apply,
  constantIntegers,
  defineOp,
  type GradientContext,
  type InferenceContext,
  int,
  int64Vector,
  intAttribute,
  intsAttribute,
  scalarLike,
} from '../registry.ts';
import { type Dim, elementCount, fixedShape, normalizeAxis, type Shape, sameShape, type TensorType } from '../types.ts';
import { cast, div, equal, mul } from './elementwise.ts';
import { expandTo, reshape } from './shape.ts';

/** The reduced axes, from the second input (opset 18) or, in older files, from the attribute. */
export function reducedAxes(context: InferenceContext): number[] {
  const rank = context.x.shape.length;
  const given = context.inputs[1]
    ? constantIntegers(context, 1, 'the axes')
    : intsAttribute(context.attributes, 'axes');
  const all = Array.from({ length: rank }, (_, axis) => axis);
  if (!given || given.length === 0) return intAttribute(context.attributes, 'noop_with_empty_axes', 0) === 1 ? [] : all;
  return given.map((axis) => normalizeAxis(axis, rank, context.where));
}

function inferReduction(context: InferenceContext): TensorType {
  const { dtype, shape } = context.x;
  const axes = reducedAxes(context);
  const keep = intAttribute(context.attributes, 'keepdims', 1) === 1;
  const reduced = shape.flatMap((dim, axis): Dim[] => (axes.includes(axis) ? (keep ? [1] : []) : [dim]));
  return { dtype, shape: reduced };
}

/** Options of the reductions. */
export interface ReduceOptions {
  /** Whether the reduced axes stay, with length 1; default false. */
  readonly keepdims?: boolean;
}

/** @param gradient has the reduced axes, and the shape of x with length 1 in their place, which broadcasts to x. */
function defineReduction(
  opType: string,
  gradient: (context: GradientContext, axes: number[], kept: number[]) => Value,
) {
  defineOp({
    opType,
    infer: inferReduction,
    gradient: (context) => {
      const axes = reducedAxes(context);
      const kept = context.x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim));
      return gradient(context, axes, fixedShape(kept));
    },
  });
  return (x: Value, axes?: readonly number[], { keepdims = false }: ReduceOptions = {}): Value =>
    apply(opType, axes ? [x, int64Vector(x, axes)] : [x], { keepdims: int(keepdims ? 1 : 0) });
}

const sumOver = defineReduction('ReduceSum', ({ x, dy }, _axes, kept) => expandTo(reshape(dy, kept), x.shape));
/** Sum over `axes` (default: all). */
export function reduceSum(x: Value, axes?: readonly number[], options?: ReduceOptions): Value {
  const last = axes && x.graph.target === 'cuda' ? lastOf(axes, x.shape.length) : [];
  if (!axes || last.length === 0 || last.length === axes.length) return sumOver(x, axes, options);
  // onnxruntime has fast kernels for the first axes and for the last; cuDNN takes six times as long for both at once.
  const rest = axes.filter((axis) => !last.includes(axis));
  if (options?.keepdims) return sumOver(sumOver(x, last, options), rest, options);
  return sumOver(
    sumOver(x, last),
    rest.map((axis) => normalizeAxis(axis, x.shape.length, 'ReduceSum')),
  );
}

/** Those of the axes that are the last ones of a tensor of this rank. */
function lastOf(axes: readonly number[], rank: number): number[] {
  const at = (position: number) => axes.find((axis) => normalizeAxis(axis, rank, 'ReduceSum') === position);
  const last: number[] = [];
  for (let axis = at(rank - 1); axis !== undefined; axis = at(rank - 1 - last.length)) last.push(axis);
  return last.toReversed();
}
/** Mean over `axes` (default: all). */
export const reduceMean = defineReduction('ReduceMean', ({ x, dy }, axes, kept) => {
  const count = elementCount(x.shape.filter((_, axis) => axes.includes(axis)));
  return expandTo(reshape(mul(dy, scalarLike(dy, 1 / count)), kept), x.shape);
});

/** Where several elements are the extremum, they share the gradient, as in torch's amax. */
function extremumGradient({ x, y, dy }: GradientContext, axes: number[], kept: number[]): Value {
  const chosen = cast(equal(x, reshape(y, kept)), x.dtype);
  return mul(chosen, div(reshape(dy, kept), reduceSum(chosen, axes, { keepdims: true })));
}
/** Largest element over `axes` (default: all). */
export const reduceMax = defineReduction('ReduceMax', extremumGradient);
/** Smallest element over `axes` (default: all). */
export const reduceMin = defineReduction('ReduceMin', extremumGradient);

/** Sums `value` down to `shape`, which had been broadcast to the shape of `value`: the adjoint of broadcasting. */
export function sumTo(value: Value, shape: Shape): Value {
  if (sameShape(value.shape, shape)) return value;
  const padding = value.shape.length - shape.length;
  const axes: number[] = [];
  value.shape.forEach((dim, axis) => {
    if (axis < padding || (shape[axis - padding] === 1 && dim !== 1)) axes.push(axis);
  });
  const summed = axes.length === 0 ? value : reduceSum(value, axes);
  return sameShape(summed.shape, shape) ? summed : reshape(summed, fixedShape(shape));
}
