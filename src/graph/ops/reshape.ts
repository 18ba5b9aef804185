import { GraphError } from '../../errors.ts';
import type { Value } from '../graph.ts';
import {
  apply,
  applyOp,
  constantIntegers,
  defineOp,
  type InferenceContext,
  int64Vector,
  intAttribute,
  intsAttribute,
  required,
} from '../registry.ts';
import {
  broadcastShapes,
  type Dim,
  elementCount,
  fixedShape,
  formatShape,
  normalizeAxis,
  type Shape,
  sameShape,
} from '../types.ts';
import { sumTo } from './reduce.ts';

defineOp({
  opType: 'Reshape',
  infer: (context) => {
    const x = required(context, 0);
    const target = constantIntegers(context, 1, 'the shape');
    return [{ dtype: x.dtype, shape: reshapedShape(context, x.shape, target) }];
  },
  gradient: reshapeBack,
});

/** The adjoint of every op that only changes the shape. */
function reshapeBack(context: {
  inputs: readonly (Value | null)[];
  gradients: readonly (Value | undefined)[];
}): (Value | undefined)[] {
  const x = context.inputs[0];
  const dy = context.gradients[0];
  return x && dy ? [reshape(dy, fixedShape(x.shape))] : [];
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
      remaining.symbols.length === 1 && remaining.product === 1
        ? (remaining.symbols[0] ?? -1)
        : remaining.product;
  const fits =
    open >= 0
      ? remaining.symbols.length <= 1 &&
        (remaining.symbols.length === 0 || remaining.product === 1) &&
        Number.isInteger(remaining.product)
      : remaining.symbols.length === 0 && remaining.product === 1;
  if (!fits)
    throw new GraphError(
      `${context.where}: ${formatShape(from)} cannot be reshaped to ${formatShape(target)}`,
    );
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
    const x = required(context, 0);
    const given = constantIntegers(context, 1, 'the axes');
    const rank = x.shape.length + given.length;
    const axes = given.map((axis) => normalizeAxis(axis, rank, context.where));
    const rest = [...x.shape];
    return [
      {
        dtype: x.dtype,
        shape: Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : (rest.shift() ?? 1))),
      },
    ];
  },
  gradient: reshapeBack,
});
export function unsqueeze(x: Value, axes: readonly number[]): Value {
  return apply('Unsqueeze', [x, int64Vector(x, axes)]);
}

defineOp({
  opType: 'Squeeze',
  infer: (context) => {
    const x = required(context, 0);
    const axes = context.inputs[1]
      ? constantIntegers(context, 1, 'the axes').map((axis) =>
          normalizeAxis(axis, x.shape.length, context.where),
        )
      : undefined;
    return [
      { dtype: x.dtype, shape: x.shape.filter((dim, axis) => (axes ? !axes.includes(axis) : dim !== 1)) },
    ];
  },
  gradient: reshapeBack,
});
export function squeeze(x: Value, axes: readonly number[]): Value {
  return apply('Squeeze', [x, int64Vector(x, axes)]);
}

defineOp({
  opType: 'Expand',
  infer: (context) => {
    const x = required(context, 0);
    const target = constantIntegers(context, 1, 'the shape');
    return [{ dtype: x.dtype, shape: broadcastShapes(x.shape, target, context.where) }];
  },
  gradient: ({ inputs, gradients }) => {
    const [x] = inputs;
    const dy = gradients[0];
    return x && dy ? [sumTo(dy, x.shape)] : [];
  },
});
/** Broadcasts x to `shape`. @throws {GraphError} where an axis of `shape` is symbolic. */
export function expandTo(x: Value, shape: Shape): Value {
  return sameShape(x.shape, shape) ? x : apply('Expand', [x, int64Vector(x, fixedShape(shape))]);
}

defineOp({
  opType: 'Transpose',
  infer: (context) => {
    const x = required(context, 0);
    const perm =
      intsAttribute(context.attributes, 'perm') ?? x.shape.map((_, axis) => x.shape.length - 1 - axis);
    if (perm.length !== x.shape.length)
      throw new GraphError(
        `${context.where}: perm ${formatShape(perm)} does not fit ${formatShape(x.shape)}`,
      );
    return [
      {
        dtype: x.dtype,
        shape: perm.map((axis) => x.shape[normalizeAxis(axis, x.shape.length, context.where)] ?? 1),
      },
    ];
  },
  gradient: ({ node, inputs, gradients }) => {
    const dy = gradients[0];
    const perm =
      intsAttribute(node.attributes, 'perm') ??
      inputs[0]?.shape.map((_, axis, all) => all.length - 1 - axis) ??
      [];
    const inverse = perm.map((_, axis) => perm.indexOf(axis));
    return dy ? [transpose(dy, inverse)] : [];
  },
});
/** Permutes the axes; by default reverses them. */
export function transpose(
  x: Value,
  perm: readonly number[] = x.shape.map((_, axis) => x.shape.length - 1 - axis),
): Value {
  return apply('Transpose', [x], { perm: { kind: 'ints', value: perm } });
}

defineOp({
  opType: 'Concat',
  infer: (context) => {
    const first = required(context, 0);
    const axis = normalizeAxis(
      intAttribute(context.attributes, 'axis', 0),
      first.shape.length,
      context.where,
    );
    const lengths = context.inputs.map((input, index) => {
      const value = input ?? required(context, index);
      const fits =
        value.dtype === first.dtype &&
        value.shape.length === first.shape.length &&
        value.shape.every((dim, i) => i === axis || dim === first.shape[i]);
      if (!fits)
        throw new GraphError(
          `${context.where}: '${value.name}' ${value.dtype} ${formatShape(value.shape)} does not fit '${first.name}' ${first.dtype} ${formatShape(first.shape)} along axis ${axis}`,
        );
      return value.shape[axis] ?? 0;
    });
    const total = lengths.length === 1 ? first.shape[axis] : elementTotal(lengths);
    return [{ dtype: first.dtype, shape: first.shape.map((dim, i) => (i === axis ? (total ?? 0) : dim)) }];
  },
  gradient: ({ node, inputs, gradients }) => {
    const dy = gradients[0];
    if (!dy) return [];
    const axis = normalizeAxis(
      intAttribute(node.attributes, 'axis', 0),
      dy.shape.length,
      `node '${node.name}'`,
    );
    return split(dy, fixedShape(inputs.map((input) => input?.shape[axis] ?? 0)), axis);
  },
});

function elementTotal(lengths: readonly Dim[]): number {
  return fixedShape(lengths).reduce((sum, length) => sum + length, 0);
}

export function concat(values: readonly Value[], axis: number): Value {
  const [only] = values;
  return values.length === 1 && only ? only : apply('Concat', values, { axis: { kind: 'int', value: axis } });
}

defineOp({
  opType: 'Split',
  infer: (context) => {
    const x = required(context, 0);
    const axis = normalizeAxis(intAttribute(context.attributes, 'axis', 0), x.shape.length, context.where);
    const length = elementCount([x.shape[axis] ?? 0]);
    const chunk = Math.ceil(length / context.outputCount);
    const lengths = context.inputs[1]
      ? constantIntegers(context, 1, 'the lengths')
      : Array.from({ length: context.outputCount }, (_, i) => Math.min(chunk, length - i * chunk));
    if (elementTotal(lengths) !== length || lengths.length !== context.outputCount) {
      throw new GraphError(
        `${context.where}: lengths ${formatShape(lengths)} do not add up to axis ${axis} of ${formatShape(x.shape)}`,
      );
    }
    return lengths.map((part) => ({
      dtype: x.dtype,
      shape: x.shape.map((dim, i) => (i === axis ? part : dim)),
    }));
  },
  gradient: ({ node, outputs, gradients }) => {
    const known = gradients.find((gradient) => gradient !== undefined);
    if (!known) return [];
    const axis = intAttribute(node.attributes, 'axis', 0);
    const zero = known.graph.constant(
      known.dtype,
      [],
      known.dtype === 'float64' ? new Float64Array(1) : new Float32Array(1),
    );
    return [
      concat(
        outputs.map((output, i) => gradients[i] ?? expandTo(zero, output.shape)),
        axis,
      ),
    ];
  },
});
/** Cuts x along `axis` into pieces of the given lengths. */
export function split(x: Value, lengths: readonly number[], axis: number): Value[] {
  return applyOp('Split', [x, int64Vector(x, lengths)], {
    attributes: { axis: { kind: 'int', value: axis } },
    outputCount: lengths.length,
  });
}
