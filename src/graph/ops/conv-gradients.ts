import type { Value } from '../graph.ts';
import { apply, int64Vector } from '../op-registry.ts';
import { fixedShape, type Shape } from '../tensor-type.ts';
import { type ConvGeometry, conv2d, convTranspose2d } from './conv.ts';
import { add } from './elementwise.ts';
import { gather, pad, slice } from './indexing.ts';
import { gemm } from './matmul.ts';
import { concat, reshape, transpose } from './reshape.ts';

/** How a gradient of a convolution is computed; all give the same up to rounding. See docs/performance.md. */
export type InputFormulation = 'conv-transpose' | 'flipped-conv' | 'columns';
export type WeightFormulation = 'columns' | 'transposed-conv';

/**
 * dL/dx of a convolution, [batch, in, height, width], from dy [batch, out, ...] and the weight [out, in / group, kh, kw].
 */
export function convInputGradient(
  dy: Value,
  weight: Value,
  inputShape: Shape,
  geometry: ConvGeometry,
  formulation = inputFormulation(dy, weight, geometry),
): Value {
  if (formulation === 'flipped-conv') return flippedConv(dy, weight, geometry);
  if (formulation === 'columns') return addColumns(dy, weight, fixedShape(inputShape), geometry);
  return transposedConv(dy, weight, fixedShape(inputShape), geometry);
}

/** dL/dweight of a convolution, of `weightShape` [out, in / group, kh, kw]. */
export function convWeightGradient(
  dy: Value,
  x: Value,
  weightShape: Shape,
  geometry: ConvGeometry,
  formulation = weightFormulation(dy, geometry),
): Value {
  const shape = fixedShape(weightShape);
  return formulation === 'columns'
    ? columnProduct(dy, x, shape, geometry)
    : convOverBatch(dy, x, shape, geometry);
}

function inputFormulation(
  dy: Value,
  weight: Value,
  { strides, dilations, group }: ConvGeometry,
): InputFormulation {
  const [, , height = 1, width = 1] = fixedShape(dy.shape);
  const [, , kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  if (group > 1) return 'conv-transpose';
  if (kernelHeight * kernelWidth === 1) return 'conv-transpose';
  if (height * width <= 64 || !isUnit(strides) || !isUnit(dilations)) return 'conv-transpose';
  return 'flipped-conv';
}

function weightFormulation(_dy: Value, { group }: ConvGeometry): WeightFormulation {
  return group > 1 ? 'transposed-conv' : 'columns';
}

function isUnit([a, b]: readonly [number, number]): boolean {
  return a === 1 && b === 1;
}

function transposedConv(dy: Value, weight: Value, inputShape: number[], geometry: ConvGeometry): Value {
  const { strides, pads, dilations } = geometry;
  const [, , height = 1, width = 1] = inputShape;
  const [, , outHeight = 1, outWidth = 1] = fixedShape(dy.shape);
  const [, , kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  // Rows at the end that no filter reached, because the stride does not divide the length.
  const missing = (length: number, out: number, kernel: number, axis: 0 | 1) =>
    length -
    (strides[axis] * (out - 1) + dilations[axis] * (kernel - 1) + 1 - pads[axis] - (pads[axis + 2] ?? 0));
  return convTranspose2d(dy, weight, undefined, {
    ...geometry,
    outputPadding: [missing(height, outHeight, kernelHeight, 0), missing(width, outWidth, kernelWidth, 1)],
  });
}

/** For stride 1: a convolution of dy with the filters turned by 180 degrees, in and out exchanged. */
function flippedConv(dy: Value, weight: Value, { pads, dilations }: ConvGeometry): Value {
  const [filters = 1, channels = 1, kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  const positions = kernelHeight * kernelWidth;
  const reversed = Array.from({ length: positions }, (_, i) => positions - 1 - i);
  const byPosition = transpose(reshape(weight, [filters, channels, positions]), [2, 1, 0]);
  const turned = transpose(gather(byPosition, int64Vector(weight, reversed)), [1, 2, 0]);
  const reach = [dilations[0] * (kernelHeight - 1), dilations[1] * (kernelWidth - 1)] as const;
  return conv2d(dy, reshape(turned, [channels, filters, kernelHeight, kernelWidth]), undefined, {
    pads: [reach[0] - pads[0], reach[1] - pads[1], reach[0] - pads[2], reach[1] - pads[3]],
    dilations,
  });
}

/** One product for all images, then each filter position's part is added where it came from (col2im). */
function addColumns(dy: Value, weight: Value, inputShape: number[], geometry: ConvGeometry): Value {
  const [batch = 1, channels = 1, height = 1, width = 1] = inputShape;
  const [filters = 1, , kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  const [, , outHeight = 1, outWidth = 1] = fixedShape(dy.shape);
  const { pads, dilations } = geometry;
  const positions = kernelHeight * kernelWidth;
  // [kernel positions * in, batch * out pixels], images side by side.
  const byPosition = reshape(transpose(reshape(weight, [filters, channels, positions]), [0, 2, 1]), [
    filters,
    -1,
  ]);
  const columns = gemm(byPosition, acrossBatch(dy), undefined, { transA: true });
  const images = reshape(columns, [positions, channels, batch, outHeight, outWidth]);
  let sum: Value | undefined;
  for (let position = 0; position < positions; position++) {
    const top = Math.floor(position / kernelWidth) * dilations[0];
    const left = (position % kernelWidth) * dilations[1];
    const part = reshape(slice(images, position, position + 1, 0), [channels, batch, outHeight, outWidth]);
    const below = height + pads[0] + pads[2] - top - outHeight;
    const right = width + pads[1] + pads[3] - left - outWidth;
    const placed = pad(part, [0, 0, top, left, 0, 0, below, right]);
    sum = sum ? add(sum, placed) : placed;
  }
  const inner = slice(slice(sum as Value, pads[0], pads[0] + height, 2), pads[1], pads[1] + width, 3);
  return transpose(inner, [1, 0, 2, 3]);
}

/** One product over all images of dy and the columns of x (im2col). */
function columnProduct(
  dy: Value,
  x: Value,
  [filters = 1, channels = 1, kernelHeight = 1, kernelWidth = 1]: number[],
  geometry: ConvGeometry,
): Value {
  const [, , outHeight = 1, outWidth = 1] = fixedShape(dy.shape);
  const { strides, pads, dilations } = geometry;
  const positions = kernelHeight * kernelWidth;
  const padded = pad(transpose(x, [1, 0, 2, 3]), [0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]]);
  const columns = Array.from({ length: positions }, (_, position) => {
    const top = Math.floor(position / kernelWidth) * dilations[0];
    const left = (position % kernelWidth) * dilations[1];
    return window(padded, [top, left], [outHeight, outWidth], strides);
  });
  const matrix = reshape(concat(columns, 0), [positions * channels, -1]);
  const product = gemm(acrossBatch(dy), matrix, undefined, { transB: true });
  if (positions === 1) return reshape(product, [filters, channels, kernelHeight, kernelWidth]);
  const byChannel = transpose(reshape(product, [filters, positions, channels]), [0, 2, 1]);
  return reshape(byChannel, [filters, channels, kernelHeight, kernelWidth]);
}

/** A convolution whose channels are the images: x and dy change the roles of image and filter. */
function convOverBatch(dy: Value, x: Value, weightShape: number[], geometry: ConvGeometry): Value {
  const { strides, pads, dilations, group } = geometry;
  const [filters = 1, channels = 1, kernelHeight = 1, kernelWidth = 1] = weightShape;
  const perGroup = (part: number) => {
    const images = slice(x, part * channels, (part + 1) * channels, 1);
    const filtersOfPart = filters / group;
    const responses = slice(dy, part * filtersOfPart, (part + 1) * filtersOfPart, 1);
    const product = conv2d(transpose(images, [1, 0, 2, 3]), transpose(responses, [1, 0, 2, 3]), undefined, {
      strides: dilations,
      dilations: strides,
      pads,
    });
    // Rows that the stride left over give positions beyond the kernel.
    const cut = slice(slice(product, 0, kernelHeight, 2), 0, kernelWidth, 3);
    return transpose(cut, [1, 0, 2, 3]);
  };
  return concat(
    Array.from({ length: group }, (_, part) => perGroup(part)),
    0,
  );
}

/** [batch, channels, height, width] as [channels, batch * height * width]. */
function acrossBatch(x: Value): Value {
  const [, channels = 1] = fixedShape(x.shape);
  return reshape(transpose(x, [1, 0, 2, 3]), [channels, -1]);
}

/** The pixels of x [.., .., height, width] that a filter position meets, one in `strides`. */
function window(
  x: Value,
  [top, left]: readonly [number, number],
  [height, width]: readonly [number, number],
  strides: readonly [number, number],
): Value {
  const ends = [top + strides[0] * (height - 1) + 1, left + strides[1] * (width - 1) + 1];
  return apply('Slice', [
    x,
    int64Vector(x, [top, left]),
    int64Vector(x, ends),
    int64Vector(x, [2, 3]),
    int64Vector(x, strides),
  ]);
}
