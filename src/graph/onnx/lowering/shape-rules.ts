import { GraphError } from '../../../errors.ts';
import type { Value } from '../../graph.ts';
import * as ops from '../../ops/index.ts';
import {
  apply,
  applyOp,
  axisAttribute,
  floatAttribute,
  int64Vector,
  intAttribute,
  intsAttribute,
  scalarLike,
  textAttribute,
} from '../../registry.ts';
import { elementCount, normalizeAxis } from '../../types.ts';
import {
  fixedShapeOf,
  knownTensor,
  type LoweringRule,
  type NodeContext,
  numbersAt,
  numbersFrom,
  numbersOf,
  type Operand,
  operandAt,
  optionalValueAt,
  tensorOf,
  valueAt,
} from './operand.ts';
import { resampleAxis, selectionRow } from './resize.ts';

export const shapeRules: Readonly<Record<string, LoweringRule>> = {
  Shape(context) {
    const dims = fixedShapeOf(context, operandAt(context, 0));
    const start = intAttribute(context.attributes, 'start', 0);
    const end = intAttribute(context.attributes, 'end', dims.length);
    const part = dims.slice(start, end);
    return [tensorOf('int64', [part.length], part)];
  },

  Size: (context) => [tensorOf('int64', [], [elementCount(fixedShapeOf(context, operandAt(context, 0)))])],

  Reshape(context) {
    const target = numbersAt(context, 1, 'the shape') ?? [];
    if (intAttribute(context.attributes, 'allowzero', 0) === 1 && target.includes(0))
      throw new GraphError(`${context.where}: allowzero with an axis of length 0 is not supported`);
    return [ops.reshape(valueAt(context, 0), target)];
  },

  Squeeze(context) {
    const x = valueAt(context, 0);
    const axes = axesOf(context) ?? x.shape.flatMap((dim, axis) => (dim === 1 ? [axis] : []));
    return [axes.length === 0 ? x : ops.squeeze(x, axes)];
  },

  Unsqueeze: (context) => [ops.unsqueeze(valueAt(context, 0), axesOf(context) ?? [])],

  Flatten(context) {
    const x = valueAt(context, 0);
    const given = intAttribute(context.attributes, 'axis', 1);
    const axis = given === x.shape.length ? given : normalizeAxis(given, x.shape.length, context.where);
    // A leading batch axis that is not known stays what remains.
    const rest = elementCount(x.shape.slice(axis));
    return [ops.reshape(x, [axis === 0 ? 1 : -1, rest])];
  },

  Expand(context) {
    const x = valueAt(context, 0);
    const target = numbersAt(context, 1, 'the shape') ?? [];
    const keepsAxis = (dim: number, i: number) => dim === 1 || dim === x.shape.at(i - target.length);
    const isSame = target.length <= x.shape.length && target.every(keepsAxis);
    return [isSame ? x : apply('Expand', [x, int64Vector(x, target)])];
  },

  Tile: (context) => [ops.tile(valueAt(context, 0), numbersAt(context, 1, 'the repeats') ?? [])],

  Concat(context) {
    const values = context.inputs.flatMap((operand) => (operand ? [context.materialise(operand)] : []));
    return [ops.concat(values, axisAttribute(context, values[0]?.shape.length ?? 0))];
  },

  Split(context) {
    const x = valueAt(context, 0);
    const axis = axisAttribute(context, x.shape.length);
    const length = elementCount([x.shape[axis] ?? 0]);
    const count = context.outputCount;
    const chunk = Math.ceil(length / count);
    const lengths =
      numbersFrom(context, 1, 'split', 'the lengths') ??
      Array.from({ length: count }, (_, i) => Math.max(0, Math.min(chunk, length - i * chunk)));
    return ops.split(x, lengths, axis);
  },

  Slice(context) {
    const x = valueAt(context, 0);
    const starts = numbersFrom(context, 1, 'starts', 'the starts') ?? [];
    const ends = numbersFrom(context, 2, 'ends', 'the ends') ?? [];
    const axes = numbersFrom(context, 3, 'axes', 'the axes') ?? starts.map((_, axis) => axis);
    const steps = numbersFrom(context, 4, 'steps', 'the steps') ?? starts.map(() => 1);
    // INT64_MAX is not exact as a number; any end beyond the axis means the same.
    const bounded = (at: number) => Math.min(Math.max(at, -(2 ** 31)), 2 ** 31 - 1);
    const vectors = [starts.map(bounded), ends.map(bounded), axes, steps];
    return applyOp('Slice', [x, ...vectors.map((vector) => int64Vector(x, vector))]);
  },

  /** Zeros or a number around x; edges, reflections and repetitions are products with matrices of 0 and 1. */
  Pad(context) {
    const x = valueAt(context, 0);
    const rank = x.shape.length;
    const given = numbersFrom(context, 1, 'pads', 'the pads') ?? [];
    const axes = (numbersAt(context, 3, 'the axes') ?? x.shape.map((_, axis) => axis)).map((axis) =>
      normalizeAxis(axis, rank, context.where),
    );
    const before = x.shape.map((_, axis) => given[axes.indexOf(axis)] ?? 0);
    const after = x.shape.map((_, axis) => given[axes.indexOf(axis) + axes.length] ?? 0);
    for (const [axis] of x.shape.entries()) if (!axes.includes(axis)) before[axis] = after[axis] = 0;
    const mode = textAttribute(context.attributes, 'mode', 'constant');
    if (mode === 'constant') return [padConstant(context, x, before, after)];
    let padded = x;
    x.shape.forEach((dim, axis) => {
      const [start = 0, end = 0] = [before[axis], after[axis]];
      if (start === 0 && end === 0) return;
      const length = elementCount([dim]);
      const rows = Array.from({ length: start + length + end }, (_, i) =>
        selectionRow(length, mirrored(context, mode, i - start, length)),
      );
      padded = resampleAxis(context.where, padded, axis, rows);
    });
    return [padded];
  },

  /** With a single known index it is a Slice, whose gradient is a Pad instead of a scatter. */
  Gather(context) {
    const x = valueAt(context, 0);
    const axis = axisAttribute(context, x.shape.length);
    const indices = operandAt(context, 1);
    const known = knownTensor(indices);
    const length = x.shape[axis];
    if (known?.data.length !== 1 || typeof length !== 'number')
      return [ops.gather(x, context.materialise(indices), axis)];
    const [given = 0] = numbersOf(known);
    const index = given < 0 ? given + length : given;
    if (index < 0 || index >= length)
      throw new GraphError(`${context.where}: index ${given} is out of range for ${length} elements`);
    const row = ops.slice(x, index, index + 1, axis);
    if (known.shape.length === 1) return [row];
    return [known.shape.length === 0 ? ops.squeeze(row, [axis]) : ops.gather(x, context.materialise(indices), axis)];
  },

  Transpose(context) {
    const x = valueAt(context, 0);
    const perm = intsAttribute(context.attributes, 'perm');
    if (perm && new Set(perm).size !== x.shape.length)
      throw new GraphError(`${context.where}: perm [${perm.join(', ')}] is not an order of ${x.shape.length} axes`);
    return [ops.transpose(x, perm)];
  },

  /** A tensor of one repeated value, in a shape that is known now. */
  ConstantOfShape(context) {
    const dims = numbersAt(context, 0, 'the shape') ?? [];
    const { value } = context.attributes;
    const filled = value?.kind === 'tensor' ? value.value : tensorOf('float32', [1], [0]);
    const scalar: Operand = { dtype: filled.dtype, shape: [], data: filled.data };
    return [ops.expandTo(context.materialise(scalar), dims)];
  },

  Identity: (context) => [operandAt(context, 0)],

  /** In evaluation Dropout keeps everything. */
  Dropout(context) {
    const training = optionalValueAt(context, 2);
    if (training && (!training.data || numbersOf({ data: training.data })[0] !== 0))
      throw new GraphError(
        `${context.where}: a Dropout that is active is not supported: export the model in evaluation mode`,
      );
    if (context.outputCount > 1) throw new GraphError(`${context.where}: the mask of Dropout is not supported`);
    return [operandAt(context, 0)];
  },
};

const axesOf = (context: NodeContext) => numbersFrom(context, 1, 'axes', 'the axes');

function padConstant(context: NodeContext, x: Value, before: number[], after: number[]): Value {
  let kept = x;
  x.shape.forEach((dim, axis) => {
    const [start, end] = [Math.min(before[axis] ?? 0, 0), Math.min(after[axis] ?? 0, 0)];
    if (start < 0 || end < 0) kept = ops.slice(kept, -start, elementCount([dim]) + end, axis);
  });
  const counts = [...before, ...after].map((count) => Math.max(count, 0));
  const fill = numbersAt(context, 2, 'the padding value')?.[0] ?? floatAttribute(context.attributes, 'value', 0);
  if (fill === 0 || counts.every((count) => count === 0)) return ops.pad(kept, counts);
  return apply('Pad', [kept, int64Vector(kept, counts), scalarLike(kept, fill)]);
}

/** The position inside `length` that a position outside repeats. */
function mirrored(context: NodeContext, mode: string, at: number, length: number): number {
  if (mode === 'edge') return Math.min(Math.max(at, 0), length - 1);
  if (mode === 'wrap') return ((at % length) + length) % length;
  if (mode !== 'reflect') throw new GraphError(`${context.where}: mode '${mode}' is not supported`);
  if (length === 1) return 0;
  const period = 2 * (length - 1);
  const phase = ((at % period) + period) % period;
  return phase < length ? phase : period - phase;
}
