import { GraphError } from '../../errors.ts';
import type { Value } from '../graph.ts';
import {
  apply,
  applyOp,
  axisAttribute,
  constantIntegers,
  defineOp,
  type GradientContext,
  type InferenceContext,
  int,
  int64Vector,
  intAttribute,
  ints,
  intsAttribute,
  required,
  scalarLike,
} from '../registry.ts';
import {
  broadcastShapes,
  type Dim,
  elementCount,
  fixedShape,
  formatShape,
  formatType,
  normalizeAxis,
  type Shape,
  sameShape,
} from '../types.ts';

defineOp({
  opType: 'Reshape',
  infer: (context) => {
    const { dtype, shape } = context.x;
    return { dtype, shape: reshapedShape(context, shape, constantIntegers(context, 1, 'the shape')) };
  },
  gradient: reshapeBack,
});

/** The adjoint of every op that only changes the shape. */
function reshapeBack({ x, dy }: GradientContext): Value {
  return reshape(dy, fixedShape(x.shape));
}

/** Resolves 0 (copy the axis) and -1 (what remains); symbolic axes must be copied or remain as a whole. */
function reshapedShape(context: InferenceContext, from: Shape, target: readonly number[]): Dim[] {
  const shape: Dim[] = target.map((dim, axis) => (dim === 0 ? (from[axis] ?? 0) : dim));
  const remaining = splitProduct(from);
  for (const dim of shape) {
    if (typeof dim === 'string') remaining.symbols.splice(remaining.symbols.indexOf(dim), 1);
    else if (dim !== -1) remaining.product /= dim;
  }
  const open = shape.indexOf(-1);
  if (open >= 0)
    shape[open] =
      remaining.symbols.length === 1 && remaining.product === 1 ? (remaining.symbols[0] ?? -1) : remaining.product;
  const fits =
    open >= 0
      ? remaining.symbols.length <= 1 &&
        (remaining.symbols.length === 0 || remaining.product === 1) &&
        Number.isInteger(remaining.product)
      : remaining.symbols.length === 0 && remaining.product === 1;
  if (!fits)
    throw new GraphError(`${context.where}: ${formatShape(from)} cannot be reshaped to ${formatShape(target)}`);
  return shape;
}

function splitProduct(shape: Shape): { product: number; symbols: string[] } {
  let product = 1;
  const symbols: string[] = [];
  for (const dim of shape) {
    if (typeof dim === 'string') symbols.push(dim);
    else product *= dim;
  }
  return { product, symbols };
}

/** The same elements in another shape; 0 copies an axis, -1 takes what remains. */
export function reshape(x: Value, shape: readonly number[]): Value {
  return sameShape(x.shape, shape) ? x : apply('Reshape', [x, int64Vector(x, shape)]);
}

defineOp({
  opType: 'Unsqueeze',
  infer: (context) => {
    const { dtype, shape } = context.x;
    return { dtype, shape: unsqueezedShape(shape, constantIntegers(context, 1, 'the axes'), context.where) };
  },
  gradient: reshapeBack,
});
/** `shape` with axes of length 1 at the positions `added` of the result. */
export function unsqueezedShape<T extends Dim>(
  shape: readonly T[],
  added: readonly number[],
  where: string,
): (T | 1)[] {
  const rank = shape.length + added.length;
  const axes = added.map((axis) => normalizeAxis(axis, rank, where));
  const rest = [...shape];
  return Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : (rest.shift() ?? 1)));
}

/** Inserts axes of length 1, at the positions `axes` of the result. */
export function unsqueeze(x: Value, axes: readonly number[]): Value {
  return apply('Unsqueeze', [x, int64Vector(x, axes)]);
}

defineOp({
  opType: 'Squeeze',
  infer: (context) => {
    const { dtype, shape } = context.x;
    const given = context.inputs[1] && constantIntegers(context, 1, 'the axes');
    return { dtype, shape: squeezedShape(shape, given, context.where) };
  },
  gradient: reshapeBack,
});
/** `shape` without the axes `dropped`, or without all of length 1. */
export function squeezedShape<T extends Dim>(
  shape: readonly T[],
  dropped: readonly number[] | null | undefined,
  where: string,
): T[] {
  const axes = dropped?.map((axis) => normalizeAxis(axis, shape.length, where));
  return shape.filter((dim, axis) => (axes ? !axes.includes(axis) : dim !== 1));
}

/** Drops the axes `axes`, which have length 1. */
export function squeeze(x: Value, axes: readonly number[]): Value {
  return apply('Squeeze', [x, int64Vector(x, axes)]);
}

defineOp({
  opType: 'Expand',
  infer: (context) => {
    const { dtype, shape } = context.x;
    const target = constantIntegers(context, 1, 'the shape');
    return { dtype, shape: broadcastShapes(shape, target, context.where) };
  },
  gradient: ({ dy }) => dy,
});
/** Broadcasts x to `shape`. @throws {GraphError} where an axis of `shape` is symbolic. */
export function expandTo(x: Value, shape: Shape): Value {
  return sameShape(x.shape, shape) ? x : apply('Expand', [x, int64Vector(x, fixedShape(shape))]);
}

/** The order of the axes; ONNX reverses them where none is given. */
function permutation({ x, attributes }: InferenceContext): readonly number[] {
  return intsAttribute(attributes, 'perm') ?? x.shape.map((_, axis) => x.shape.length - 1 - axis);
}

defineOp({
  opType: 'Transpose',
  infer: (context) => {
    const { dtype, shape } = context.x;
    const perm = permutation(context);
    if (perm.length !== shape.length)
      throw new GraphError(`${context.where}: perm ${formatShape(perm)} does not fit ${formatShape(shape)}`);
    return { dtype, shape: perm.map((axis) => shape[normalizeAxis(axis, shape.length, context.where)] ?? 1) };
  },
  gradient: (context) => {
    const perm = permutation(context);
    return transpose(
      context.dy,
      perm.map((_, axis) => perm.indexOf(axis)),
    );
  },
});
/** Permutes the axes; by default reverses them. */
export function transpose(
  x: Value,
  perm: readonly number[] = x.shape.map((_, axis) => x.shape.length - 1 - axis),
): Value {
  return apply('Transpose', [x], { perm: ints(perm) });
}

defineOp({
  opType: 'Concat',
  infer: (context) => {
    const first = context.x;
    const axis = axisAttribute(context, first.shape.length);
    const lengths = context.inputs.map((input, index) => {
      const value = input ?? required(context, index);
      const fits =
        value.dtype === first.dtype &&
        value.shape.length === first.shape.length &&
        value.shape.every((dim, i) => i === axis || dim === first.shape[i]);
      if (!fits)
        throw new GraphError(
          `${context.where}: '${value.name}' ${formatType(value)} does not fit '${first.name}' ${formatType(first)} along axis ${axis}`,
        );
      return value.shape[axis] ?? 0;
    });
    const total = lengths.length === 1 ? first.shape[axis] : totalLength(lengths);
    return { dtype: first.dtype, shape: first.shape.map((dim, i) => (i === axis ? (total ?? 0) : dim)) };
  },
  gradient: (context) => {
    const axis = axisAttribute(context, context.x.shape.length);
    return split(context.dy, fixedShape(context.inputs.map((input) => input?.shape[axis] ?? 0)), axis);
  },
});

function totalLength(lengths: readonly Dim[]): number {
  return fixedShape(lengths).reduce((sum, length) => sum + length, 0);
}

/** Lays tensors of one dtype one after another along `axis`; their other axes must be equal. */
export function concat(values: readonly Value[], axis: number): Value {
  const [only] = values;
  return values.length === 1 && only ? only : apply('Concat', values, { axis: int(axis) });
}

defineOp({
  opType: 'Split',
  infer: (context) => {
    const { dtype, shape } = context.x;
    const { where, outputCount } = context;
    const axis = axisAttribute(context, shape.length);
    const length = elementCount([shape[axis] ?? 0]);
    const chunk = Math.ceil(length / outputCount);
    const lengths = context.inputs[1]
      ? constantIntegers(context, 1, 'the lengths')
      : Array.from({ length: outputCount }, (_, i) => Math.min(chunk, length - i * chunk));
    if (totalLength(lengths) !== length || lengths.length !== outputCount)
      throw new GraphError(
        `${where}: lengths ${formatShape(lengths)} do not add up to axis ${axis} of ${formatShape(shape)}`,
      );
    return lengths.map((part) => ({ dtype, shape: shape.map((dim, i) => (i === axis ? part : dim)) }));
  },
  gradient: ({ node, gradients, attributes }) => {
    const known = gradients.find((gradient) => gradient !== undefined);
    if (!known) return undefined;
    const zero = scalarLike(known, 0);
    const pieces = node.outputs.map(({ shape }, i) => gradients[i] ?? expandTo(zero, shape));
    return concat(pieces, intAttribute(attributes, 'axis', 0));
  },
});
/** Cuts x along `axis` into pieces of the given lengths, which add up to the whole. */
export function split(x: Value, lengths: readonly number[], axis: number): Value[] {
  return applyOp('Split', [x, int64Vector(x, lengths)], {
    attributes: { axis: int(axis) },
    outputCount: lengths.length,
  });
}
