import { GraphError } from '../../../errors.ts';
import type { Value } from '../../graph.ts';
import { matmul } from '../../ops/matmul.ts';
import { upsampleNearest } from '../../ops/pooling.ts';
import { reshape } from '../../ops/shape.ts';
import { floatAttribute, intAttribute, intsAttribute, textAttribute } from '../../registry.ts';
import { elementCount, fixedShape, normalizeAxis, toTensorData } from '../../types.ts';
import { type LoweringRule, type NodeContext, numbersAt, numbersFrom, valueAt } from './operand.ts';

/** One output position as a weighting of the input positions of its axis. */
type Row = readonly number[];

export function selectionRow(length: number, index: number): Row {
  return Array.from({ length }, (_, i) => (i === index ? 1 : 0));
}

/**
 * Replaces the positions along `axis` by weighted sums of them: a product with a matrix, whose gradient is one too.
 * Products with 0 and 1 are exact.
 */
export function resampleAxis(where: string, x: Value, axis: number, rows: readonly Row[]): Value {
  const length = elementCount([x.shape[axis] ?? 0]);
  const inner = fixedShape(x.shape.slice(axis + 1));
  if (axis === 0) throw new GraphError(`${where}: the batch axis cannot be resampled`);
  const matrix = (values: readonly number[], shape: readonly number[]) =>
    x.graph.constant(x.dtype, shape, toTensorData(x.dtype, values));
  const outer = fixedShape(x.shape.slice(1, axis));
  const shape = [0, ...outer, rows.length, ...inner];
  if (elementCount(inner) === 1) {
    const columns = rows[0]?.flatMap((_, i) => rows.map((row) => row[i] ?? 0)) ?? [];
    const flat = reshape(x, [0, elementCount(outer), length]);
    return reshape(matmul(flat, matrix(columns, [length, rows.length])), shape);
  }
  const folded = reshape(x, [0, elementCount(outer), length, elementCount(inner)]);
  return reshape(matmul(matrix(rows.flat(), [rows.length, length]), folded), shape);
}

interface AxisScale {
  readonly length: number;
  readonly output: number;
  readonly scale: number;
}

/** Resize of opsets 10 to 21 and the older Upsample, along any axis except the batch. */
export const resize: LoweringRule = (context) => {
  const x = valueAt(context, 0);
  const axes = axisScales(context, x);
  const mode = textAttribute(context.attributes, 'mode', 'nearest');
  if (mode === 'nearest') {
    const factors = axes.map((axis) => (isSame(axis) ? 1 : wholeFactor(context, axis)));
    const [batch, channels, height, width] = factors;
    if (x.shape.length === 4 && batch === 1 && channels === 1 && height && width)
      return [height === 1 && width === 1 ? x : upsampleNearest(x, [height, width])];
  }
  let resized = x;
  axes.forEach((axisScale, axis) => {
    if (isSame(axisScale)) return;
    const rows = Array.from({ length: axisScale.output }, (_, o) => weights(context, mode, axisScale, o));
    resized = resampleAxis(context.where, resized, axis, rows);
  });
  return [resized];
};

/** Lengths and scales of every axis, by ONNX's rule output = floor(length * scale). */
function axisScales(context: NodeContext, x: Value): AxisScale[] {
  const { attributes, where, opset, opType } = context;
  if (intAttribute(attributes, 'antialias', 0) === 1) throw new GraphError(`${where}: antialias is not supported`);
  if (textAttribute(context.attributes, 'keep_aspect_ratio_policy', 'stretch') !== 'stretch')
    throw new GraphError(`${where}: keep_aspect_ratio_policy is not supported`);
  const old = opType === 'Upsample' || opset < 11;
  const scales = numbersFrom(context, old ? 1 : 2, 'scales', 'the scales') ?? [];
  const sizes = old ? [] : (numbersAt(context, 3, 'the sizes') ?? []);
  const axes = intsAttribute(attributes, 'axes') ?? x.shape.map((_, axis) => axis);
  const order = axes.map((axis) => normalizeAxis(axis, x.shape.length, where));
  return x.shape.map((dim, axis) => {
    const index = order.indexOf(axis);
    const size = sizes[index];
    const factor = scales[index];
    // The batch axis may be symbolic where it stays as it is.
    if (typeof dim === 'string' && (index < 0 || factor === 1)) return { length: 1, output: 1, scale: 1 };
    const length = elementCount([dim]);
    if (index < 0) return { length, output: length, scale: 1 };
    const scale = size === undefined ? (factor ?? Number.NaN) : size / length;
    const output = size ?? Math.floor(length * scale);
    if (scale > 0 && Number.isSafeInteger(output) && output > 0 && output <= 2 ** 16) return { length, output, scale };
    throw new GraphError(`${where}: an axis of ${length} cannot be resized by ${scale}`);
  });
}

function isSame({ length, output, scale }: AxisScale): boolean {
  return output === length && scale === 1;
}

/** How often every position is repeated; undefined when the resize does more than repeat. */
function wholeFactor(context: NodeContext, axis: AxisScale): number | undefined {
  const factor = axis.output / axis.length;
  if (!Number.isInteger(factor)) return undefined;
  for (let o = 0; o < axis.output; o++) if (nearestIndex(context, axis, o) !== Math.floor(o / factor)) return undefined;
  return factor;
}

function weights(context: NodeContext, mode: string, axis: AxisScale, o: number): Row {
  const { length } = axis;
  if (mode === 'nearest') return selectionRow(length, nearestIndex(context, axis, o));
  const inside = (i: number) => Math.min(Math.max(i, 0), length - 1);
  const row = Array<number>(length).fill(0);
  const addTo = (i: number, weight: number) => {
    row[inside(i)] = (row[inside(i)] ?? 0) + weight;
  };
  const at = sourcePosition(context, axis, o);
  if (mode === 'linear' || mode === 'bilinear') {
    const position = inside(at);
    const low = Math.floor(position);
    addTo(low, 1 - (position - low));
    addTo(low + 1, position - low);
    return row;
  }
  if (mode !== 'cubic' || intAttribute(context.attributes, 'exclude_outside', 0) === 1)
    throw new GraphError(`${context.where}: mode '${mode}' is not supported`);
  const low = Math.floor(at);
  const a = floatAttribute(context.attributes, 'cubic_coeff_a', -0.75);
  for (let i = low - 1; i <= low + 2; i++) addTo(i, cubicKernel(Math.abs(at - i), a));
  return row;
}

/** Keys' kernel (1981), as ONNX and torch have it. */
function cubicKernel(t: number, a: number): number {
  if (t <= 1) return (a + 2) * t ** 3 - (a + 3) * t ** 2 + 1;
  return t < 2 ? a * t ** 3 - 5 * a * t ** 2 + 8 * a * t - 4 * a : 0;
}

/** onnxruntime computes positions in float32, which decides between neighbours. */
function sourcePosition(context: NodeContext, { length, output, scale }: AxisScale, o: number): number {
  const old = context.opType === 'Upsample' || context.opset < 11;
  const transform = textAttribute(
    context.attributes,
    'coordinate_transformation_mode',
    old ? 'asymmetric' : 'half_pixel',
  );
  const factor = Math.fround(scale);
  const halfPixel = () => Math.fround(Math.fround((o + 0.5) / factor) - 0.5);
  switch (transform) {
    case 'asymmetric':
      return Math.fround(o / factor);
    case 'half_pixel':
      return halfPixel();
    case 'pytorch_half_pixel':
      return output > 1 ? halfPixel() : 0;
    case 'align_corners':
      return output === 1 ? 0 : Math.fround((o * (length - 1)) / (output - 1));
    case 'tf_half_pixel_for_nn':
      return Math.fround((o + 0.5) / factor);
    case 'half_pixel_symmetric':
      return (length / 2) * (1 - output / (factor * length)) + halfPixel();
    default:
      throw new GraphError(`${context.where}: coordinate_transformation_mode '${transform}' is not supported`);
  }
}

function nearestIndex(context: NodeContext, axis: AxisScale, o: number): number {
  const old = context.opType === 'Upsample' || context.opset < 11;
  const at = sourcePosition(context, axis, o);
  const low = Math.floor(at);
  const rounding = {
    floor: low,
    ceil: Math.ceil(at),
    round_prefer_floor: at - low <= 0.5 ? low : low + 1,
    round_prefer_ceil: at - low < 0.5 ? low : low + 1,
  };
  const name = textAttribute(context.attributes, 'nearest_mode', old ? 'floor' : 'round_prefer_floor');
  const index = rounding[name as keyof typeof rounding];
  if (index === undefined) throw new GraphError(`${context.where}: nearest_mode '${name}' is not supported`);
  return Math.min(Math.max(index, 0), axis.length - 1);
}
