import { GraphError } from '../../../errors.ts';
import { sliceRange } from '../../ops/indexing.ts';
import { squeezedShape, unsqueezedShape } from '../../ops/shape.ts';
import { axisAttribute, intsAttribute } from '../../registry.ts';
import { broadcastShapes, elementCount, normalizeAxis } from '../../types.ts';
import {
  broadcastIndex,
  type FoldingRule,
  type KnownTensor,
  type NodeContext,
  numbersFrom,
  numbersOf,
  pick,
  stridesOf,
  tensorOf,
} from './operand.ts';

export const shapeFolding: Readonly<Record<string, FoldingRule>> = {
  /** The attribute `value`, or one of its short forms of opset 12. */
  Constant(context) {
    const { value, value_int, value_ints, value_float, value_floats } = context.attributes;
    if (value?.kind === 'tensor') return [{ ...value.value, shape: value.value.shape.map(Number) }];
    if (value_int?.kind === 'int') return [tensorOf('int64', [], [value_int.value])];
    if (value_ints?.kind === 'ints') return [tensorOf('int64', [value_ints.value.length], value_ints.value)];
    if (value_float?.kind === 'float') return [tensorOf('float32', [], [value_float.value])];
    if (value_floats?.kind === 'floats') return [tensorOf('float32', [value_floats.value.length], value_floats.value)];
    throw new GraphError(`${context.where}: only constants of numbers are supported`);
  },

  ConstantOfShape(context, [shape]) {
    if (!shape) return undefined;
    const { value } = context.attributes;
    const dims = checkedShape(context, numbersOf(shape));
    const filled = value?.kind === 'tensor' ? value.value : tensorOf('float32', [1], [0]);
    return [pick({ ...filled, shape: [1] }, dims, () => 0)];
  },

  Range(context, [start, limit, delta]) {
    if (!start || !limit || !delta) return undefined;
    const [from = 0, to = 0, step = 1] = [start, limit, delta].map((x) => numbersOf(x)[0]);
    const count = step === 0 ? Number.NaN : Math.max(0, Math.ceil((to - from) / step));
    const [length = 0] = checkedShape(context, [count]);
    return [
      tensorOf(
        start.dtype,
        [length],
        Array.from({ length }, (_, i) => from + i * step),
      ),
    ];
  },

  Gather(context, [data, indices]) {
    if (!data || !indices) return undefined;
    const axis = axisAttribute(context, data.shape.length);
    const length = data.shape[axis] ?? 0;
    const at = numbersOf(indices).map((index) => (index < 0 ? index + length : index));
    if (at.some((index) => !(index >= 0 && index < length)))
      throw new GraphError(`${context.where}: index ${at.join(', ')} is out of range for ${length} elements`);
    const rank = indices.shape.length;
    const shape = [...data.shape.slice(0, axis), ...indices.shape, ...data.shape.slice(axis + 1)];
    const dataStrides = stridesOf(data.shape);
    const indexStrides = stridesOf(indices.shape);
    return [
      pick(data, checkedShape(context, shape), (position) => {
        const index = indexStrides.reduce((sum, stride, i) => sum + stride * (position[axis + i] ?? 0), 0);
        return dataStrides.reduce((sum, stride, i) => {
          if (i === axis) return sum + stride * (at[index] ?? 0);
          return sum + stride * (position[i < axis ? i : i + rank - 1] ?? 0);
        }, 0);
      }),
    ];
  },

  Concat(context, inputs) {
    const tensors = inputs.filter((input) => input !== null);
    const [first] = tensors;
    if (!first || tensors.length < inputs.length) return undefined;
    const axis = axisAttribute(context, first.shape.length);
    const outer = elementCount(first.shape.slice(0, axis));
    const runs = tensors.map((tensor) => ({ numbers: numbersOf(tensor), run: tensor.data.length / outer }));
    const values: number[] = [];
    for (let row = 0; row < outer; row++)
      for (const { numbers, run } of runs) for (let i = 0; i < run; i++) values.push(numbers[row * run + i] ?? 0);
    const total = tensors.reduce((sum, { shape }) => sum + (shape[axis] ?? 0), 0);
    const shape = first.shape.map((dim, i) => (i === axis ? total : dim));
    if (elementCount(shape) !== values.length)
      throw new GraphError(`${context.where}: its inputs do not fit together along axis ${axis}`);
    return [tensorOf(first.dtype, shape, values)];
  },

  Slice(context, [x]) {
    if (!x) return undefined;
    const starts = numbersFrom(context, 1, 'starts', 'the starts') ?? [];
    const ends = numbersFrom(context, 2, 'ends', 'the ends') ?? [];
    const axes = numbersFrom(context, 3, 'axes', 'the axes') ?? starts.map((_, axis) => axis);
    const steps = numbersFrom(context, 4, 'steps', 'the steps') ?? [];
    const shape = [...x.shape];
    const first = x.shape.map(() => 0);
    const stride = x.shape.map(() => 1);
    axes.forEach((given, i) => {
      const axis = normalizeAxis(given, x.shape.length, context.where);
      const range = sliceRange(context.where, x.shape[axis] ?? 0, starts[i], ends[i], steps[i]);
      [shape[axis], first[axis], stride[axis]] = [range.length, range.start, range.step];
    });
    const strides = stridesOf(x.shape);
    return [
      pick(x, shape, (position) =>
        strides.reduce(
          (sum, size, axis) => sum + size * ((first[axis] ?? 0) + (stride[axis] ?? 1) * (position[axis] ?? 0)),
          0,
        ),
      ),
    ];
  },

  Reshape(context, [x, target]) {
    if (!x || !target) return undefined;
    const wanted = numbersOf(target).map((dim, axis) => (dim === 0 ? (x.shape[axis] ?? 0) : dim));
    const known = elementCount(wanted.filter((dim) => dim !== -1));
    const shape = checkedShape(
      context,
      wanted.map((dim) => (dim === -1 ? x.data.length / known : dim)),
    );
    if (elementCount(shape) === x.data.length) return [withShape(x, shape)];
    throw new GraphError(`${context.where}: [${x.shape.join(', ')}] cannot be reshaped to [${shape.join(', ')}]`);
  },

  Unsqueeze(context, [x]) {
    const axes = numbersFrom(context, 1, 'axes', 'the axes');
    if (!x || !axes) return undefined;
    return [withShape(x, unsqueezedShape(x.shape, axes, context.where))];
  },

  Squeeze(context, [x]) {
    if (!x) return undefined;
    const shape = squeezedShape(x.shape, numbersFrom(context, 1, 'axes', 'the axes'), context.where);
    if (elementCount(shape) === x.data.length) return [withShape(x, shape)];
    throw new GraphError(`${context.where}: an axis of [${x.shape.join(', ')}] to be dropped is longer than 1`);
  },

  Expand(context, [x, target]) {
    if (!x || !target) return undefined;
    const shape = broadcastShapes(x.shape, numbersOf(target), context.where).map(Number);
    return [pick(x, checkedShape(context, shape), broadcastIndex(x))];
  },

  Tile(context, [x, repeats]) {
    if (!x || !repeats) return undefined;
    const counts = numbersOf(repeats);
    const shape = checkedShape(
      context,
      x.shape.map((dim, axis) => dim * (counts[axis] ?? 1)),
    );
    const strides = stridesOf(x.shape);
    return [
      pick(x, shape, (position) =>
        strides.reduce((sum, stride, axis) => sum + stride * ((position[axis] ?? 0) % (x.shape[axis] ?? 1)), 0),
      ),
    ];
  },

  Transpose(context, [x]) {
    if (!x) return undefined;
    const order = intsAttribute(context.attributes, 'perm') ?? x.shape.map((_, axis) => x.shape.length - 1 - axis);
    const strides = stridesOf(x.shape);
    const shape = order.map((axis) => x.shape[normalizeAxis(axis, x.shape.length, context.where)] ?? 1);
    if (new Set(order).size !== x.shape.length)
      throw new GraphError(`${context.where}: perm [${order.join(', ')}] does not fit [${x.shape.join(', ')}]`);
    return [
      pick(x, shape, (position) => order.reduce((sum, axis, i) => sum + (strides[axis] ?? 0) * (position[i] ?? 0), 0)),
    ];
  },

  /** Positions of the elements that are not 0, [rank, count]: how exporters write `arange` over ones. */
  NonZero(_context, [x]) {
    if (!x) return undefined;
    const strides = stridesOf(x.shape);
    const found = numbersOf(x).flatMap((value, i) => (value === 0 ? [] : [i]));
    const rows = strides.flatMap((stride, axis) => found.map((i) => Math.floor(i / stride) % (x.shape[axis] ?? 1)));
    return [tensorOf('int64', [x.shape.length, found.length], rows)];
  },
};

/** No real file needs a known tensor with more elements; a hostile one could fill the memory. */
const MAX_ELEMENTS = 2 ** 26;

/** @throws {GraphError} for a shape that is impossible or too large. */
function checkedShape(context: NodeContext, shape: readonly number[]): number[] {
  const possible = shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0);
  if (possible && elementCount(shape) <= MAX_ELEMENTS) return [...shape];
  throw new GraphError(
    `${context.where}: a tensor of shape [${shape.join(', ')}] is impossible or too large to be computed here`,
  );
}

const withShape = (x: KnownTensor, shape: readonly number[]): KnownTensor => ({ ...x, shape });
