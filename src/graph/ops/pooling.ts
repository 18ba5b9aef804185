import { GraphError } from '../../errors.ts';
import type { Attributes, Value } from '../graph.ts';
import {
  apply,
  applyOp,
  defineOp,
  type InferenceContext,
  int,
  intAttribute,
  ints,
  intsAttribute,
  scalarLike,
  text,
  textAttribute,
} from '../registry.ts';
import { type Dim, elementCount, fixedShape, formatShape, toTensorData } from '../types.ts';
import { convTranspose2d, type Pair } from './conv/conv.ts';
import { cast, mul, widened } from './elementwise.ts';
import { expandTo, reshape } from './shape.ts';

/** Options of `maxPool`. */
export interface Pool2dOptions {
  /** Default: the window, which makes windows lie side by side. */
  readonly strides?: Pair;
  /** Rows and columns around the input: top, left, bottom, right; default none. They are never the maximum. */
  readonly pads?: readonly [number, number, number, number];
}

/** Options of `averagePool`. */
export interface AveragePool2dOptions extends Pool2dOptions {
  /** Whether padding counts as zeros in the mean, as PyTorch's default; default false, as ONNX and TensorFlow. */
  readonly countIncludePad?: boolean;
}

interface PoolGeometry {
  readonly window: Pair;
  readonly strides: Pair;
  readonly pads: readonly [number, number, number, number];
}

/** @throws {GraphError} for windows that are not in 2-D, dilated, or rounded up at the end. */
export function poolGeometry(context: Pick<InferenceContext, 'where' | 'attributes'>): PoolGeometry {
  const { attributes, where } = context;
  const numbers = (name: string, count: number, fallback: number) =>
    intsAttribute(attributes, name) ?? Array<number>(count).fill(fallback);
  const kernel = numbers('kernel_shape', 0, 0);
  const strides = numbers('strides', 2, 1);
  const pads = numbers('pads', 4, 0);
  if (
    textAttribute(attributes, 'auto_pad', 'NOTSET') !== 'NOTSET' ||
    intAttribute(attributes, 'ceil_mode', 0) !== 0 ||
    numbers('dilations', 2, 1).some((dilation) => dilation !== 1) ||
    kernel.length !== 2 ||
    strides.length !== 2 ||
    pads.length !== 4 ||
    [...kernel, ...strides].some((length) => length < 1) ||
    pads.some((count, side) => count < 0 || count >= (kernel[side % 2] ?? 0))
  )
    throw new GraphError(
      `${where}: only windows in 2-D, with pads in numbers smaller than the window, without ceil_mode and dilations, are supported`,
    );
  const [height = 1, width = 1] = kernel;
  const [down = 1, across = 1] = strides;
  const [top = 0, left = 0, bottom = 0, right = 0] = pads;
  return { window: [height, width], strides: [down, across], pads: [top, left, bottom, right] };
}

function pooledShape(context: InferenceContext): Dim[] {
  const { shape } = context.x;
  const { window, strides, pads } = poolGeometry(context);
  const pooled = shape.map((dim, axis) => {
    const side = axis - 2;
    if (side !== 0 && side !== 1) return dim;
    const padded = elementCount([dim]) + pads[side] + (pads[side + 2] ?? 0);
    return Math.floor((padded - window[side]) / strides[side]) + 1;
  });
  if (shape.length === 4 && pooled.slice(2).every((length) => Number(length) >= 1)) return pooled;
  throw new GraphError(`${context.where}: windows ${formatShape(window)} do not fit images ${formatShape(shape)}`);
}

function poolAttributes([height, width]: Pair, options: Pool2dOptions): Attributes {
  return {
    kernel_shape: ints([height, width]),
    strides: ints(options.strides ?? [height, width]),
    pads: ints(options.pads ?? [0, 0, 0, 0]),
  };
}

defineOp({
  opType: 'AveragePool',
  infer: (context) => ({ dtype: context.x.dtype, shape: pooledShape(context) }),
  gradient: (context) => {
    const { x, dy, attributes } = context;
    const geometry = poolGeometry(context);
    const { window, strides, pads } = geometry;
    const [height, width] = window;
    const tiled =
      strides[0] === height &&
      strides[1] === width &&
      pads.every((count) => count === 0) &&
      elementCount(x.shape.slice(2)) === elementCount(dy.shape.slice(2)) * height * width;
    if (tiled) return upsampleNearest(mul(dy, scalarLike(dy, 1 / (height * width))), window);
    const countsPads = intAttribute(attributes, 'count_include_pad', 0) === 1;
    return spreadOverWindows(mul(dy, shares(x, dy, geometry, countsPads)), x, geometry);
  },
});

/** 1 over the number of elements that each window takes its mean of, [1, 1, height, width]. */
function shares(x: Value, dy: Value, geometry: PoolGeometry, countsPads: boolean): Value {
  const { window, strides, pads } = geometry;
  const [, , rows = 1, columns = 1] = fixedShape(x.shape);
  const [, , outRows = 1, outColumns = 1] = fixedShape(dy.shape);
  const inside = (side: 0 | 1, length: number, index: number) => {
    const start = index * strides[side] - pads[side];
    return Math.min(start + window[side], length) - Math.max(start, 0);
  };
  const values = Array.from({ length: outRows * outColumns }, (_, i) =>
    countsPads
      ? 1 / (window[0] * window[1])
      : 1 / (inside(0, rows, Math.floor(i / outColumns)) * inside(1, columns, i % outColumns)),
  );
  return x.graph.constant(dy.dtype, [1, 1, outRows, outColumns], toTensorData(dy.dtype, values));
}

/** Adds every element of dy to all elements of its window: the adjoint of sums over windows. */
function spreadOverWindows(dy: Value, x: Value, { window, strides, pads }: PoolGeometry): Value {
  const [batch = 1, channels = 1, rows = 1, columns = 1] = fixedShape(x.shape);
  const [, , outRows = 1, outColumns = 1] = fixedShape(dy.shape);
  const ones = toTensorData(dy.dtype, Array<number>(window[0] * window[1]).fill(1));
  const rest = (side: 0 | 1, length: number, outLength: number) =>
    length + pads[side] + pads[side === 0 ? 2 : 3] - window[side] - (outLength - 1) * strides[side];
  const spread = convTranspose2d(
    reshape(dy, [batch * channels, 1, outRows, outColumns]),
    dy.graph.constant(dy.dtype, [1, 1, ...window], ones),
    undefined,
    { strides, pads, outputPadding: [rest(0, rows, outRows), rest(1, columns, outColumns)] },
  );
  return reshape(spread, [batch, channels, rows, columns]);
}

/** Means over windows of x [batch, channels, height, width]. */
export function averagePool(x: Value, window: Pair, options: AveragePool2dOptions = {}): Value {
  return apply('AveragePool', [x], {
    ...poolAttributes(window, options),
    count_include_pad: int(options.countIncludePad ? 1 : 0),
  });
}

defineOp({
  opType: 'MaxPool',
  infer: (context) => {
    const shape = pooledShape(context);
    if (intAttribute(context.attributes, 'storage_order', 0) !== 0)
      throw new GraphError(`${context.where}: only storage_order 0 is supported`);
    return [
      { dtype: context.x.dtype, shape },
      { dtype: 'int64' as const, shape },
    ].slice(0, context.outputCount);
  },
  /** The maxima are found again, because keeping their positions from the forward pass would cost memory. */
  gradient: ({ x, dy, attributes, where }) => {
    const shape = fixedShape(x.shape);
    const indices = applyOp('MaxPool', [x], { attributes, outputCount: 2 })[1];
    if (!indices) throw new GraphError(`${where}: MaxPool has no indices`);
    const wide = widened(dy);
    const zeros = expandTo(scalarLike(wide, 0), [elementCount(shape)]);
    const flat = apply('ScatterElements', [zeros, reshape(indices, [-1]), reshape(wide, [-1])], {
      axis: int(0),
      reduction: text('add'),
    });
    return cast(reshape(flat, shape), dy.dtype);
  },
});

/** Maxima over windows of x [batch, channels, height, width]. */
export function maxPool(x: Value, window: Pair, options: Pool2dOptions = {}): Value {
  return apply('MaxPool', [x], poolAttributes(window, options));
}

defineOp({ opType: 'ScatterElements', infer: ({ x }) => x });

defineOp({
  opType: 'GlobalAveragePool',
  infer: ({ x: { dtype, shape } }) => ({ dtype, shape: shape.map((dim, axis) => (axis < 2 ? dim : 1)) }),
  gradient: ({ x, dy }) => expandTo(mul(dy, scalarLike(dy, 1 / elementCount(x.shape.slice(2)))), x.shape),
});
/** Means over height and width, [batch, channels, 1, 1]. */
export function globalAveragePool(x: Value): Value {
  return apply('GlobalAveragePool', [x]);
}

/** The integer factors by which a Resize enlarges height and width. @throws {GraphError} for any other Resize. */
export function enlargement({ x, where, inputs, attributes }: InferenceContext): [number, number] {
  const given = (index: number): number[] => Array.from<number | bigint, number>(inputs[index]?.data ?? [], Number);
  const fromSizes = () => given(3).map((size, axis) => size / elementCount([x.shape[axis] ?? 1]));
  const factors = inputs[2]?.data?.length ? given(2) : fromSizes();
  const [batch, channels, height = 0, width = 0] = factors;
  const nearest =
    textAttribute(attributes, 'mode', 'nearest') === 'nearest' &&
    textAttribute(attributes, 'coordinate_transformation_mode', 'half_pixel') === 'asymmetric' &&
    textAttribute(attributes, 'nearest_mode', 'round_prefer_floor') === 'floor';
  const whole =
    batch === 1 && channels === 1 && [height, width].every((factor) => Number.isInteger(factor) && factor >= 1);
  if (nearest && whole && factors.length === 4) return [height, width];
  throw new GraphError(
    `${where}: only the nearest, asymmetric Resize of images by whole factors is supported, not ${formatShape(factors)}`,
  );
}

defineOp({
  opType: 'Resize',
  infer: (context) => {
    const { dtype, shape } = context.x;
    const factors = [1, 1, ...enlargement(context)];
    const scaled = (dim: Dim, axis: number) => (factors[axis] === 1 ? dim : elementCount([dim]) * (factors[axis] ?? 1));
    return { dtype, shape: shape.map(scaled) };
  },
  gradient: (context) => {
    const [height, width] = enlargement(context);
    const mean = averagePool(context.dy, [height, width]);
    return mul(mean, scalarLike(mean, height * width));
  },
});

/** Repeats every pixel of x [batch, channels, height, width] `factors` times down and across. */
export function upsampleNearest(x: Value, factors: readonly [number, number]): Value {
  const scales = x.graph.constant('float32', [4], toTensorData('float32', [1, 1, ...factors]));
  return apply('Resize', [x, null, scales], {
    mode: text('nearest'),
    coordinate_transformation_mode: text('asymmetric'),
    nearest_mode: text('floor'),
  });
}

/** Every pixel twice in both directions. */
export function upsampleNearest2x(x: Value): Value {
  return upsampleNearest(x, [2, 2]);
}
