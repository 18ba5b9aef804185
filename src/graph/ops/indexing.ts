import { GraphError } from '../../errors.ts';
import type { Value } from '../graph.ts';
import {
  apply,
  axisAttribute,
  constantIntegers,
  defineOp,
  type InferenceContext,
  int,
  int64Vector,
  required,
  scalarLike,
  text,
  textAttribute,
} from '../registry.ts';
import { type Dim, elementCount, fixedShape, formatShape, normalizeAxis } from '../types.ts';
import { cast, widened } from './elementwise.ts';
import { reduceSum } from './reduce.ts';
import { expandTo, reshape, transpose, unsqueeze } from './shape.ts';

defineOp({
  opType: 'Gather',
  infer: (context) => {
    const [data, indices] = [context.x, required(context, 1)];
    if (indices.dtype !== 'int64' && indices.dtype !== 'int32')
      throw new GraphError(`${context.where}: the indices '${indices.name}' are ${indices.dtype}, not int32 or int64`);
    const axis = axisAttribute(context, data.shape.length);
    const shape = [...data.shape.slice(0, axis), ...indices.shape, ...data.shape.slice(axis + 1)];
    return { dtype: data.dtype, shape };
  },
  gradient: (context) => {
    const [data, indices] = [context.x, required(context, 1)];
    const axis = axisAttribute(context, data.shape.length);
    return () =>
      axis > 0 ? scatterAddAlong(axis, data, indices, context.dy) : scatterAddRows(data, indices, context.dy);
  },
});

/**
 * Picks slices of `data` along `axis`: the axis gives way to the axes of `indices`, int32 or int64. Negative indices count from the
 * end.
 */
export function gather(data: Value, indices: Value, axis = 0): Value {
  return apply('Gather', [data, indices], { axis: int(axis) });
}

/** As `scatterAddRows` for slices along another axis, which is brought to the front and back. */
function scatterAddAlong(axis: number, data: Value, indices: Value, dy: Value): Value {
  const axes = [...data.shape.keys()];
  const front = [axis, ...axes.filter((i) => i !== axis)];
  const gathered = indices.shape.map((_, i) => axis + i);
  const others = [...dy.shape.keys()].filter((i) => !gathered.includes(i));
  const frontShape = front.map((i) => data.shape[i] ?? 1);
  const like = expandTo(scalarLike(data, 0), frontShape);
  const summed = scatterAddRows(like, indices, transpose(dy, [...gathered, ...others]));
  const back = axes.map((i) => front.indexOf(i));
  return transpose(summed, back);
}

/**
 * onnxruntime's ScatterND on the cpu adds to one element from several threads at once, and loses some of it. It takes one
 * thread for fewer than 200,000 elements.
 */
const MAX_SCATTERED = 2 ** 16;

/** Adds each row of dy to the row of zeros-like-data that it was gathered from. */
function scatterAddRows(data: Value, indices: Value, dy: Value): Value {
  const rows = widened(dy);
  // ScatterND takes int64 only.
  const positions = unsqueeze(cast(indices, 'int64'), [indices.shape.length]);
  const zeros = expandTo(scalarLike(rows, 0), data.shape);
  const [count] = rows.shape;
  const isFixed = rows.shape.every((dim) => typeof dim === 'number');
  const elements = isFixed ? elementCount(rows.shape) : 0;
  const parts = Math.min(Number(count), Math.ceil(elements / MAX_SCATTERED));
  if (elements <= MAX_SCATTERED || indices.shape.length === 0) return cast(addedRows(zeros, positions, rows), dy.dtype);
  let sum = zeros;
  for (let part = 0; part < parts; part++) {
    const [start, end] = [part, part + 1].map((edge) => Math.floor((edge * Number(count)) / parts)) as [number, number];
    sum = addedRows(sum, slice(positions, start, end, 0), slice(rows, start, end, 0));
  }
  return cast(sum, dy.dtype);
}

function addedRows(data: Value, positions: Value, rows: Value): Value {
  return apply('ScatterND', [data, positions, rows], { reduction: text('add') });
}

defineOp({ opType: 'ScatterND', infer: ({ x }) => x });

/** What a Slice takes of each axis that it cuts. */
export function sliceRanges(context: InferenceContext) {
  const { x } = context;
  const starts = constantIntegers(context, 1, 'the starts');
  const ends = constantIntegers(context, 2, 'the ends');
  const axes = context.inputs[3] ? constantIntegers(context, 3, 'the axes') : starts.map((_, axis) => axis);
  const steps = context.inputs[4] ? constantIntegers(context, 4, 'the steps') : [];
  return axes.map((given, i) => {
    const axis = normalizeAxis(given, x.shape.length, context.where);
    const length = elementCount([x.shape[axis] ?? 0]);
    return { axis, ...sliceRange(context.where, length, starts[i], ends[i], steps[i]) };
  });
}

/** The positions start, start + step, ... of an axis of `length`, by ONNX's rules for negative and distant ends. */
export function sliceRange(where: string, length: number, from = 0, to = length, step = 1) {
  if (step === 0) throw new GraphError(`${where}: step 0 is not possible`);
  // Backwards, positions run from the last element down to one before the first.
  const [lowest, highest] = step > 0 ? [0, length] : [-1, length - 1];
  const limit = (position: number) => Math.min(Math.max(position < 0 ? position + length : position, lowest), highest);
  const start = limit(from);
  return { start, step, length: Math.max(0, Math.ceil((limit(to) - start) / step)) };
}

defineOp({
  opType: 'Slice',
  infer: (context) => {
    const shape: Dim[] = [...context.x.shape];
    for (const range of sliceRanges(context)) shape[range.axis] = range.length;
    return { dtype: context.x.dtype, shape };
  },
  gradient: (context) => {
    const { x, dy } = context;
    const ranges = sliceRanges(context);
    const shape = fixedShape(x.shape);
    const before = shape.map(() => 0);
    const after = shape.map(() => 0);
    let spread = dy;
    for (const range of ranges) {
      const { axis, length } = range;
      if (length === 0) return expandTo(scalarLike(x, 0), shape);
      const step = Math.abs(range.step);
      if (range.step < 0) spread = reversed(spread, axis);
      spread = withGaps(spread, axis, step);
      const first = range.step < 0 ? range.start - step * (length - 1) : range.start;
      before[axis] = first;
      after[axis] = (shape[axis] ?? 0) - first - (step * (length - 1) + 1);
    }
    return pad(spread, [...before, ...after]);
  },
});

function reversed(x: Value, axis: number): Value {
  const vectors = [-1, -(2 ** 31), axis, -1].map((value) => int64Vector(x, [value]));
  return apply('Slice', [x, ...vectors]);
}

/** x with `step - 1` zeros between two positions of `axis`. */
function withGaps(x: Value, axis: number, step: number): Value {
  if (step === 1) return x;
  const shape = fixedShape(x.shape);
  const length = shape[axis] ?? 0;
  const apart = reshape(x, [...shape.slice(0, axis + 1), 1, ...shape.slice(axis + 1)]);
  const after = [...shape, 1].map((_, i) => (i === axis + 1 ? step - 1 : 0));
  const filled = pad(apart, [...after.map(() => 0), ...after]);
  const flat = reshape(filled, [...shape.slice(0, axis), length * step, ...shape.slice(axis + 1)]);
  return slice(flat, 0, (length - 1) * step + 1, axis);
}

/** x[..., start:end, ...] along `axis`. */
export function slice(x: Value, start: number, end: number, axis: number): Value {
  if (start === 0 && end === x.shape[axis]) return x;
  return apply('Slice', [x, int64Vector(x, [start]), int64Vector(x, [end]), int64Vector(x, [axis])]);
}

defineOp({
  opType: 'Pad',
  infer: (context) => {
    const { x, where } = context;
    const pads = constantIntegers(context, 1, 'the pads');
    const rank = x.shape.length;
    const mode = textAttribute(context.attributes, 'mode', 'constant');
    if (mode !== 'constant') throw new GraphError(`${where}: mode '${mode}' is not supported`);
    if (pads.length !== 2 * rank)
      throw new GraphError(`${where}: ${pads.length} pads do not fit ${formatShape(x.shape)}`);
    const shape = x.shape.map((dim, axis) => {
      const padding = (pads[axis] ?? 0) + (pads[axis + rank] ?? 0);
      return padding === 0 ? dim : elementCount([dim]) + padding;
    });
    return { dtype: x.dtype, shape };
  },
  gradient: (context) => {
    const pads = constantIntegers(context, 1, 'the pads');
    let dx = context.dy;
    fixedShape(context.x.shape).forEach((length, axis) => {
      const start = pads[axis] ?? 0;
      if (fixedShape(dx.shape)[axis] !== length) dx = slice(dx, start, start + length, axis);
    });
    return dx;
  },
});
/** Surrounds x with zeros: `pads` are the counts before each axis, then those after. */
export function pad(x: Value, pads: readonly number[]): Value {
  if (pads.every((count) => count === 0)) return x;
  const zero = scalarLike(x, 0);
  return apply('Pad', [x, int64Vector(x, pads), zero]);
}

function repeatsOf(context: InferenceContext): number[] {
  const { x, where } = context;
  const repeats = constantIntegers(context, 1, 'the repeats');
  if (repeats.length === x.shape.length && repeats.every((count) => count >= 1)) return repeats;
  throw new GraphError(`${where}: the repeats ${formatShape(repeats)} do not fit ${formatShape(x.shape)}`);
}

defineOp({
  opType: 'Tile',
  infer: (context) => {
    const { dtype, shape } = context.x;
    const repeats = repeatsOf(context);
    const tiled = shape.map((dim, i) => (repeats[i] === 1 ? dim : elementCount([dim]) * (repeats[i] ?? 1)));
    return { dtype, shape: tiled };
  },
  gradient: (context) => {
    const { dy } = context;
    const repeats = repeatsOf(context);
    const shape = fixedShape(context.x.shape);
    if (shape.length === 0) return dy;
    // Each axis as copies by positions; the copies are added up.
    const copied = shape.flatMap((length, axis) => [repeats[axis] ?? 1, length]);
    const copyAxes = shape.map((_, axis) => 2 * axis);
    return reshape(reduceSum(reshape(dy, copied), copyAxes), shape);
  },
});
/** x laid side by side `repeats` times along each axis, as numpy.tile. */
export function tile(x: Value, repeats: readonly number[]): Value {
  return repeats.every((count) => count === 1) ? x : apply('Tile', [x, int64Vector(x, repeats)]);
}

defineOp({
  opType: 'Constant',
  infer: ({ attributes: { value }, where }) => {
    if (value?.kind !== 'tensor')
      throw new GraphError(`${where}: only the attribute 'value' with a tensor is supported`);
    return value.value;
  },
});
