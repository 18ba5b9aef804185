import type { Value } from '../../graph.ts';
import { apply, int64Vector } from '../../registry.ts';
import { fixedShape, type Shape, toTensorData } from '../../types.ts';
import { pad, slice } from '../indexing.ts';
import { gemm, matmul } from '../matmul.ts';
import { concat, reshape, transpose } from '../shape.ts';
import { gatheredColumnProduct } from './gathered-columns.ts';
import { type ConvGeometry, conv2d, convTranspose2d, isPlain, type Pair, padsFit, turnedGeometry } from './geometry.ts';

/** How a gradient of a convolution is computed; all give the same up to rounding. See docs/performance.md. */
export type InputFormulation = 'conv-transpose' | 'flipped-conv' | 'product';
export type WeightFormulation = 'columns' | 'response-columns' | 'gathered-columns' | 'transposed-conv';

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
  if (formulation === 'product') return pixelProduct(dy, weight, fixedShape(inputShape));
  return transposedConv(dy, weight, fixedShape(inputShape), geometry);
}

/** dL/dweight of a convolution, of `weightShape` [out, in / group, kh, kw]. */
export function convWeightGradient(
  dy: Value,
  x: Value,
  weightShape: Shape,
  geometry: ConvGeometry,
  formulation = weightFormulation(dy, weightShape, geometry),
): Value {
  const shape = fixedShape(weightShape);
  if (formulation === 'columns') return columnProduct(dy, x, shape, geometry);
  if (formulation === 'gathered-columns') return gatheredColumnProduct(dy, x, shape, geometry);
  if (formulation === 'response-columns') return responseColumnProduct(dy, x, shape, geometry);
  return convOverBatch(dy, x, shape, geometry);
}

/** From this size on, rotating the filters costs less than it gains: see bench/conv-formulations.ts. */
const FLIP_FROM_PIXELS = 1024;

function inputFormulation(dy: Value, weight: Value, geometry: ConvGeometry): InputFormulation {
  const [batch = 1, , height = 1, width = 1] = fixedShape(dy.shape);
  const [filters = 1, channels = 1, kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  if (!isPlain(geometry)) return 'conv-transpose';
  if (kernelHeight * kernelWidth === 1) return 'product';
  // cuDNN's own kernel for it.
  if (dy.graph.target === 'cuda') return 'conv-transpose';
  const worthIt = batch * height * width >= FLIP_FROM_PIXELS || filters * 16 <= channels;
  return worthIt && padsFit(geometry, [kernelHeight, kernelWidth]) ? 'flipped-conv' : 'conv-transpose';
}

function weightFormulation(dy: Value, weightShape: Shape, geometry: ConvGeometry): WeightFormulation {
  const [, , height = 1, width = 1] = fixedShape(dy.shape);
  const [filters = 1, channels = 1, kernelHeight = 1, kernelWidth = 1] = fixedShape(weightShape);
  if (geometry.group > 1) return 'transposed-conv';
  if (dy.graph.target === 'cuda') return 'gathered-columns';
  const fewer = (height * width >= 1024 && filters < channels) || filters * 16 <= channels;
  const fits = padsFit(geometry, [kernelHeight, kernelWidth]);
  return isPlain(geometry) && fits && fewer ? 'response-columns' : 'columns';
}

function transposedConv(dy: Value, weight: Value, inputShape: number[], geometry: ConvGeometry): Value {
  const { strides, pads, dilations } = geometry;
  const [batch = 1, channels = 1, height = 1, width = 1] = inputShape;
  const [top, left, bottom, right] = pads;
  if (top !== bottom || left !== right) {
    // On cuda, onnxruntime's ConvTranspose has no uneven pads: the gradient of the padded images, cut.
    const paddedShape = [batch, channels, top + height + bottom, left + width + right];
    const padded = transposedConv(dy, weight, paddedShape, { ...geometry, pads: [0, 0, 0, 0] });
    return slice(slice(padded, top, top + height, 2), left, left + width, 3);
  }
  const [, , outHeight = 1, outWidth = 1] = fixedShape(dy.shape);
  const [, , kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  // Rows at the end that no filter reached, because the stride does not divide the length.
  const missing = (length: number, out: number, kernel: number, axis: 0 | 1) =>
    length - (strides[axis] * (out - 1) + dilations[axis] * (kernel - 1) + 1 - pads[axis] - (pads[axis + 2] ?? 0));
  return convTranspose2d(dy, weight, undefined, {
    ...geometry,
    outputPadding: [missing(height, outHeight, kernelHeight, 0), missing(width, outWidth, kernelWidth, 1)],
  });
}

/** For stride 1: a convolution of dy with the filters rotated by 180 degrees, in and out swapped. */
function flippedConv(dy: Value, weight: Value, geometry: ConvGeometry): Value {
  const [, , kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  const turned = transpose(turnedFilters(weight), [1, 0, 2, 3]);
  return conv2d(dy, turned, undefined, turnedGeometry([kernelHeight, kernelWidth], geometry));
}

/**
 * One product over all images of dy and the columns of x (im2col). The columns lie channel by channel, so the product is
 * already the gradient. Transposing it afterwards took half as long as the product.
 */
function columnProduct(
  dy: Value,
  x: Value,
  [filters = 1, channels = 1, kernelHeight = 1, kernelWidth = 1]: number[],
  geometry: ConvGeometry,
): Value {
  const kernel = [kernelHeight, kernelWidth] as const;
  const matrix = columnsByChannel(shiftedImages(x, fixedShape(dy.shape.slice(2)), kernel, geometry));
  const product = gemm(acrossBatch(dy), matrix, undefined, { transB: true });
  return reshape(product, [filters, channels, kernelHeight, kernelWidth]);
}

/** Images [channels, batch, height, width], one a filter position, as [channels * positions, pixels of all]. */
function columnsByChannel(images: readonly Value[]): Value {
  const [channels = 1] = fixedShape(images[0]?.shape ?? []);
  const rows = images.map((image) => reshape(image, [channels, 1, -1]));
  return reshape(concat(rows, 1), [channels * images.length, -1]);
}

/** For stride 1: as `columnProduct` with the columns of dy instead of x, fewer where the filters are fewer. */
function responseColumnProduct(
  dy: Value,
  x: Value,
  [filters = 1, channels = 1, kernelHeight = 1, kernelWidth = 1]: number[],
  geometry: ConvGeometry,
): Value {
  const kernel = [kernelHeight, kernelWidth] as const;
  const positions = kernelHeight * kernelWidth;
  const columns = shiftedImages(dy, fixedShape(x.shape.slice(2)), kernel, turnedGeometry(kernel, geometry)).reverse();
  const product = gemm(acrossBatch(x), columnsByChannel(columns), undefined, { transB: true });
  const byFilter = transpose(reshape(product, [channels, filters, positions]), [1, 0, 2]);
  return reshape(byFilter, [filters, channels, kernelHeight, kernelWidth]);
}

/** For a filter of one pixel: the transposed weight times each image. */
function pixelProduct(dy: Value, weight: Value, inputShape: number[]): Value {
  const [filters = 1, channels = 1] = fixedShape(weight.shape);
  const [batch = 1] = inputShape;
  const images = reshape(dy, [batch, filters, -1]);
  return reshape(matmul(transpose(reshape(weight, [filters, channels])), images), inputShape);
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
  const parts = Array.from({ length: group }, (_, part) => perGroup(part));
  return concat(parts, 0);
}

/** For each filter position, the pixels of x it meets: [channels, batch, height, width]. */
function shiftedImages(
  x: Value,
  [height = 1, width = 1]: readonly number[],
  [kernelHeight, kernelWidth]: Pair,
  { strides, pads, dilations }: ConvGeometry,
): Value[] {
  const padded = pad(transpose(x, [1, 0, 2, 3]), [0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]]);
  return Array.from({ length: kernelHeight * kernelWidth }, (_, position) => {
    const top = Math.floor(position / kernelWidth) * dilations[0];
    const left = (position % kernelWidth) * dilations[1];
    return window(padded, [top, left], [height, width], strides);
  });
}

/** [batch, channels, height, width] as [channels, batch * height * width]. */
function acrossBatch(x: Value): Value {
  const [, channels = 1] = fixedShape(x.shape);
  return reshape(transpose(x, [1, 0, 2, 3]), [channels, -1]);
}

/** Filters rotated by 180 degrees: a product with a permutation matrix is exact, and 4 times faster than Slice backwards. */
function turnedFilters(weight: Value): Value {
  const [filters = 1, channels = 1, kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  const positions = kernelHeight * kernelWidth;
  const permutation = Array.from({ length: positions ** 2 }, (_, i) =>
    i % positions === positions - 1 - Math.floor(i / positions) ? 1 : 0,
  );
  const matrix = weight.graph.constant(weight.dtype, [positions, positions], toTensorData(weight.dtype, permutation));
  const turned = matmul(reshape(weight, [filters * channels, positions]), matrix);
  return reshape(turned, [filters, channels, kernelHeight, kernelWidth]);
}

/** The pixels of x [.., .., height, width] that a filter position meets, one in `strides`. */
function window(x: Value, [top, left]: Pair, [height, width]: Pair, strides: Pair): Value {
  const ends = [top + strides[0] * (height - 1) + 1, left + strides[1] * (width - 1) + 1];
  const vectors = [[top, left], ends, [2, 3], strides].map((vector) => int64Vector(x, vector));
  return apply('Slice', [x, ...vectors]);
}
