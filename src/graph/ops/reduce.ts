import type { Value } from '../graph.ts';
import {
  apply,
  constantIntegers,
  defineOp,
  type InferenceContext,
  int64Vector,
  intAttribute,
  intsAttribute,
  required,
  scalarLike,
} from '../registry.ts';
import {
  type Dim,
  elementCount,
  fixedShape,
  normalizeAxis,
  type Shape,
  sameShape,
  type TensorType,
} from '../types.ts';
import { cast, div, equal, mul } from './elementwise.ts';
import { expandTo, reshape } from './reshape.ts';

/** The reduced axes, from the second input (opset 18) or, in older files, from the attribute. */
export function reducedAxes(context: InferenceContext): number[] {
  const rank = required(context, 0).shape.length;
  const given = context.inputs[1]
    ? constantIntegers(context, 1, 'the axes')
    : intsAttribute(context.attributes, 'axes');
  const all = Array.from({ length: rank }, (_, axis) => axis);
  if (!given || given.length === 0)
    return intAttribute(context.attributes, 'noop_with_empty_axes', 0) === 1 ? [] : all;
  return given.map((axis) => normalizeAxis(axis, rank, context.where));
}

function inferReduction(context: InferenceContext): TensorType[] {
  const { dtype, shape } = required(context, 0);
  const axes = reducedAxes(context);
  const keep = intAttribute(context.attributes, 'keepdims', 1) === 1;
  const reduced: Dim[] = [];
  shape.forEach((dim, axis) => {
    if (!axes.includes(axis)) reduced.push(dim);
    else if (keep) reduced.push(1);
  });
  return [{ dtype, shape: reduced }];
}

function defineReduction(opType: string, share: (gradient: Value, reducedCount: number) => Value) {
  defineOp({
    opType,
    infer: inferReduction,
    gradient: ({ node, inputs, gradients }) => {
      const x = inputs[0];
      const dy = gradients[0];
      if (!x || !dy) return [];
      const axes = reducedAxes({
        where: `node '${node.name}'`,
        inputs,
        attributes: node.attributes,
        outputCount: 1,
      });
      const kept = x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim));
      const count = elementCount(x.shape.filter((_, axis) => axes.includes(axis)));
      return [expandTo(reshape(share(dy, count), fixedShape(kept)), x.shape)];
    },
  });
  return (x: Value, axes?: readonly number[], options: { keepdims?: boolean } = {}): Value => {
    const keepdims = { kind: 'int', value: options.keepdims ? 1 : 0 } as const;
    return apply(opType, axes ? [x, int64Vector(x, axes)] : [x], { keepdims });
  };
}

/** Sum over `axes` (default: all); the axes are dropped unless `keepdims`. */
export const reduceSum = defineReduction('ReduceSum', (gradient) => gradient);
/** Mean over `axes` (default: all); the axes are dropped unless `keepdims`. */
export const reduceMean = defineReduction('ReduceMean', (gradient, count) =>
  mul(gradient, scalarLike(gradient, 1 / count)),
);

function defineReducedExtremum(opType: 'ReduceMax' | 'ReduceMin') {
  defineOp({
    opType,
    infer: inferReduction,
    gradient: ({ node, inputs, outputs, gradients }) => {
      const [x] = inputs;
      const [y] = outputs;
      const [dy] = gradients;
      if (!x || !y || !dy) return [];
      const where = `node '${node.name}'`;
      const axes = reducedAxes({ where, inputs, attributes: node.attributes, outputCount: 1 });
      const kept = fixedShape(x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim)));
      const chosen = cast(equal(x, reshape(y, kept)), x.dtype);
      return [mul(chosen, div(reshape(dy, kept), reduceSum(chosen, axes, { keepdims: true })))];
    },
  });
  return (x: Value, axes?: readonly number[], options: { keepdims?: boolean } = {}): Value => {
    const keepdims = { kind: 'int', value: options.keepdims ? 1 : 0 } as const;
    return apply(opType, axes ? [x, int64Vector(x, axes)] : [x], { keepdims });
  };
}

/** Largest element over `axes` (default: all); where several are, they share the gradient, as in torch's amax. */
export const reduceMax = defineReducedExtremum('ReduceMax');
/** Smallest element over `axes` (default: all). */
export const reduceMin = defineReducedExtremum('ReduceMin');

/** Sums `value` down to `shape`, which had been broadcast to the shape of `value`: the adjoint of broadcasting. */
export function sumTo(value: Value, shape: Shape): Value {
  if (sameShape(value.shape, shape)) return value;
  const padding = value.shape.length - shape.length;
  const axes: number[] = [];
  value.shape.forEach((dim, axis) => {
    if (axis < padding || (shape[axis - padding] === 1 && dim !== 1)) axes.push(axis);
  });
  if (axes.length === 0) return reshape(value, fixedShape(shape));
  const summed = reduceSum(value, axes);
  return sameShape(summed.shape, shape) ? summed : reshape(summed, fixedShape(shape));
}
