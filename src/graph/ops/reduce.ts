import { withGradient } from '../autodiff/custom.ts';
import type { Value } from '../graph.ts';
import {
  apply,
  axisAttribute,
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
import {
  type Dim,
  elementCount,
  fixedShape,
  isFloat,
  normalizeAxis,
  type Shape,
  sameShape,
  type TensorType,
} from '../types.ts';
import { cast, div, equal, mul } from './elementwise.ts';
import { gemm } from './matmul.ts';
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
  return axes && x.graph.target === 'cuda' ? sumOnCuda(x, axes, options) : sumOver(x, axes, options);
}

/**
 * onnxruntime has kernels for the first axes and for the last; cuDNN, which it asks for both at once, takes six times as
 * long. Few values in the last axes are summed by a product, in a third of the time.
 */
function sumOnCuda(x: Value, given: readonly number[], { keepdims = false }: ReduceOptions = {}): Value {
  const axes = given.map((axis) => normalizeAxis(axis, x.shape.length, 'ReduceSum'));
  let first = x.shape.length;
  while (axes.includes(first - 1)) first--;
  const rest = axes.filter((axis) => axis < first);
  const last = axes.filter((axis) => axis >= first);
  const inLast = last.length === 0 ? x : sumOverLast(x, first, last);
  const sum = rest.length === 0 ? inLast : sumOver(inLast, rest);
  if (!keepdims) return sum;
  return reshape(sum, fixedShape(x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim))));
}

/** How many values, and how many sums of them, are the faster as a product. */
const PRODUCT = { fewest: 32, most: 256, sums: 4096 };

/** Over `axes`, all from `first` on. */
function sumOverLast(x: Value, first: number, axes: readonly number[]): Value {
  const isFixed = x.shape.every((dim) => typeof dim === 'number');
  const kept = isFixed ? fixedShape(x.shape.slice(0, first)) : [];
  const values = isFixed ? elementCount(x.shape.slice(first)) : 0;
  const isFaster = values >= PRODUCT.fewest && values <= PRODUCT.most && elementCount(kept) >= PRODUCT.sums;
  if (!isFaster || !isFloat(x.dtype)) return sumOver(x, axes);
  const ones = expandTo(scalarLike(x, 1), [values, 1]);
  const sums = reshape(gemm(reshape(x, [-1, values]), ones), kept);
  return withGradient(sums, [x], (dy) => [expandTo(reshape(dy, [...kept, ...axes.map(() => 1)]), x.shape)]);
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

defineOp({
  opType: 'ArgMin',
  infer: (context) => {
    const { shape } = context.x;
    const axis = axisAttribute(context, shape.length);
    const keep = intAttribute(context.attributes, 'keepdims', 1) === 1;
    return { dtype: 'int64', shape: [...shape.slice(0, axis), ...(keep ? [1] : []), ...shape.slice(axis + 1)] };
  },
});

/** The index of the smallest element along `axis`, which is gone; int64. Of several smallest ones it is that of the first. */
export function argMin(x: Value, axis: number): Value {
  return apply('ArgMin', [x], { axis: int(axis), keepdims: int(0) });
}

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
