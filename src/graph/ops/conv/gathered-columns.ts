import type { Graph, Value } from '../../graph.ts';
import { scalarLike } from '../../registry.ts';
import { fixedShape } from '../../types.ts';
import { gather, pad } from '../indexing.ts';
import { gemm } from '../matmul.ts';
import { concat, expandTo, reshape, transpose } from '../shape.ts';
import { type ConvGeometry, isPlain, type Pair, padsFit, turnedGeometry } from './geometry.ts';

/**
 * dL/dweight of a convolution without groups, [out, in, kh, kw]: one product of columns that a Gather makes, where a Slice
 * for each filter position and a Concat would move twice as many bytes. For cuda: the cpu gathers single values slowly.
 */
export function gatheredColumnProduct(
  dy: Value,
  x: Value,
  weightShape: readonly number[],
  geometry: ConvGeometry,
): Value {
  const [filters = 1, channels = 1, height = 1, width = 1] = weightShape;
  const kernel = [height, width] as const;
  const isSymmetric = isPlain(geometry) && padsFit(geometry, kernel);
  const [fewer, more] = [Math.min(filters, channels), Math.max(filters, channels)];
  // What the two ways read and write, in images of one channel.
  const bySides = 4 * (fewer + more) + (1 + 2 * width) * channels + (1 + 2 * height) * filters;
  const byColumns = 2 * (fewer + more) + 3 * (1 + height * width) * fewer + more;
  if (isSymmetric && height * width > 1 && bySides < byColumns) return productOfSides(dy, x, weightShape, geometry);
  const [outSize, inSize] = [sizeOf(dy), sizeOf(x)];
  if (!isSymmetric || filters >= channels) {
    const columns = gathered(x, offsetsOf(inSize, outSize, kernel, geometry));
    return reshape(gemm(gathered(dy), columns, undefined, { transB: true }), [filters, channels, height, width]);
  }
  // Columns of dy, which are fewer. Where x meets dy at an offset, dy meets x at the opposite one.
  const columns = gathered(dy, offsetsOf(outSize, inSize, kernel, turnedGeometry(kernel, geometry)).reverse());
  const product = gemm(gathered(x), columns, undefined, { transB: true });
  const byFilter = transpose(reshape(product, [channels, filters, height * width]), [1, 0, 2]);
  return reshape(byFilter, [filters, channels, height, width]);
}

/**
 * For a convolution without strides: x is shifted along the width, dy the opposite way along the height, and one product
 * has every pair of shifts. Instead of height x width copies of one side this takes `width` of x and `height` of dy.
 */
function productOfSides(
  dy: Value,
  x: Value,
  [filters = 1, channels = 1, height = 1, width = 1]: readonly number[],
  { pads }: ConvGeometry,
): Value {
  const [outSize, inSize] = [sizeOf(dy), sizeOf(x)];
  // The rows of x, and the columns of dy.
  const grid = [inSize[0], outSize[1]] as const;
  const across = { ...PLAIN, pads: [0, pads[1], 0, 0] as const };
  const down = { ...PLAIN, pads: [height - 1 - pads[0], 0, 0, 0] as const };
  const ofX = gathered(x, offsetsOf(inSize, grid, [1, width], across));
  const ofDy = gathered(dy, offsetsOf(outSize, grid, [height, 1], down).reverse());
  const product = gemm(ofDy, ofX, undefined, { transB: true });
  return transpose(reshape(product, [filters, height, channels, width]), [0, 2, 1, 3]);
}

const PLAIN = { strides: [1, 1], dilations: [1, 1], group: 1 } as const;

function sizeOf({ shape }: Value): Pair {
  const [height = 1, width = 1] = fixedShape(shape.slice(2));
  return [height, width];
}

/** For each filter position: the pixel it meets at each pixel of the output, -1 where that lies outside. */
function offsetsOf(
  [height, width]: Pair,
  [outHeight, outWidth]: Pair,
  [kernelHeight, kernelWidth]: Pair,
  { strides, pads, dilations }: ConvGeometry,
): number[][] {
  return Array.from({ length: kernelHeight * kernelWidth }, (_, position) => {
    const top = Math.floor(position / kernelWidth) * dilations[0] - pads[0];
    const left = (position % kernelWidth) * dilations[1] - pads[1];
    return Array.from({ length: outHeight * outWidth }, (_, pixel) => {
      const row = Math.floor(pixel / outWidth) * strides[0] + top;
      const column = (pixel % outWidth) * strides[1] + left;
      return row >= 0 && row < height && column >= 0 && column < width ? row * width + column : -1;
    });
  });
}

/**
 * The pixels at the offsets of all images [batch, channels, height, width]: [channels * positions, batch * pixels]. Without
 * offsets, every pixel as it is.
 */
function gathered(images: Value, offsets?: readonly number[][]): Value {
  const [batch = 1, channels = 1, height = 1, width = 1] = fixedShape(images.shape);
  const pixels = height * width;
  const byChannel = reshape(transpose(images, [1, 0, 2, 3]), [channels, batch, pixels]);
  const isWhole =
    offsets?.length === 1 && offsets[0]?.length === pixels && offsets[0].every((at, pixel) => at === pixel);
  if (!offsets || isWhole) return reshape(byChannel, [channels, batch * pixels]);
  // A pixel of zeros after each image stands for all that lie outside.
  const isPadded = offsets.some((row) => row.includes(-1));
  const padded = isPadded ? withZero(byChannel) : byChannel;
  const table = indexTable(images.graph, offsets, batch, pixels + (isPadded ? 1 : 0));
  return reshape(gather(reshape(padded, [channels, -1]), table, 1), [channels * offsets.length, -1]);
}

/**
 * A zero after the last axis of [.., .., pixels]. onnxruntime's Concat is the faster kernel, but builds tables on the host and
 * uploads them, for which a GPU with little to do has to wait.
 */
function withZero(images: Value): Value {
  const [channels = 1, batch = 1, pixels = 1] = fixedShape(images.shape);
  if (channels * batch * pixels < 2 ** 22)
    return reshape(pad(reshape(images, [channels, batch, 1, pixels]), [0, 0, 0, 0, 0, 0, 0, 1]), [
      channels,
      batch,
      pixels + 1,
    ]);
  return concat([images, expandTo(scalarLike(images, 0), [channels, batch, 1])], 2);
}

const tables = new WeakMap<Graph, Map<string, Value>>();

/** The offsets in each of `images`, whose pixels are `length` values with the zero at the end: int32 [positions, pixels]. */
function indexTable(graph: Graph, offsets: readonly number[][], images: number, length: number): Value {
  // A U-Net has fifty convolutions, but only a few tables, of up to a million indices.
  const known = tables.get(graph) ?? new Map<string, Value>();
  tables.set(graph, known);
  const key = `${images} ${length} ${offsets.join(' ')}`;
  const found = known.get(key);
  if (found) return found;
  const indices = offsets.flatMap((row) =>
    Array.from({ length: images }, (_, image) =>
      row.map((offset) => image * length + (offset < 0 ? length - 1 : offset)),
    ).flat(),
  );
  const table = graph.constant('int32', [offsets.length, indices.length / offsets.length], Int32Array.from(indices));
  known.set(key, table);
  return table;
}
