import type { Graph, Value } from '../../graph.ts';
import { scalarLike } from '../../registry.ts';
import { elementCount, fixedShape } from '../../types.ts';
import { gather } from '../indexing.ts';
import { gemm, matmul } from '../matmul.ts';
import { reduceSum } from '../reduce.ts';
import { concat, expandTo, reshape, transpose } from '../shape.ts';
import { type ConvGeometry, isPlain, type Pair, padsFit, turnedGeometry } from './geometry.ts';

/**
 * dL/dweight of a convolution without groups, [out, in, kh, kw]: a product with columns that one Gather makes, where a Slice
 * for each filter position and a Concat would move twice as many bytes. For GPUs: the cpu gathers single values slowly.
 * The columns are those of dy where these are fewer.
 */
export function gatheredColumnProduct(
  dy: Value,
  x: Value,
  weightShape: readonly number[],
  geometry: ConvGeometry,
): Value {
  const [filters = 1, channels = 1, height = 1, width = 1] = weightShape;
  const kernel = [height, width] as const;
  const [outSize, inSize] = [dy, x].map(({ shape }) => fixedShape(shape.slice(2))) as [number[], number[]];
  if (filters >= channels || !isPlain(geometry) || !padsFit(geometry, kernel)) {
    const product = productWithColumns(dy, x, offsetsOf(inSize, outSize, kernel, geometry));
    return reshape(product, [filters, channels, height, width]);
  }
  // Where x meets dy at an offset, dy meets x at the opposite one.
  const offsets = offsetsOf(outSize, inSize, kernel, turnedGeometry(kernel, geometry)).reverse();
  const product = reshape(productWithColumns(x, dy, offsets), [channels, filters, height * width]);
  return reshape(transpose(product, [1, 0, 2]), [filters, channels, height, width]);
}

/** For each filter position: the pixel it meets at each pixel of the output, -1 where that lies outside. */
function offsetsOf(
  [height = 1, width = 1]: readonly number[],
  [outHeight = 1, outWidth = 1]: readonly number[],
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

/** `rows` [batch, m, ...pixels] times the columns of `image` [batch, n, ...pixels], over all pixels: [m, n * positions]. */
function productWithColumns(rows: Value, image: Value, offsets: readonly number[][]): Value {
  const [batch = 1, count = 1] = fixedShape(rows.shape);
  const [, channels = 1] = fixedShape(image.shape);
  const width = channels * offsets.length;
  // A product for each image writes a result for each; one for all needs both with their channels first.
  const copied = (elementCount(rows.shape) + elementCount(image.shape)) / batch;
  if (count * width <= copied) {
    const columns = reshape(gathered(image, offsets, 1), [batch, width, -1]);
    return reduceSum(matmul(reshape(rows, [batch, count, -1]), transpose(columns, [0, 2, 1])), [0]);
  }
  const byChannel = (value: Value) => transpose(value, [1, 0, 2, 3]);
  const columns = reshape(gathered(byChannel(image), offsets, batch), [width, -1]);
  return gemm(reshape(byChannel(rows), [count, -1]), columns, undefined, { transB: true });
}

/**
 * The pixels of images [a, b, height, width] at the offsets: [a, b, positions, pixels], or with `images` = b, where one
 * index goes over all of them, [a, positions, b, pixels].
 */
function gathered(value: Value, offsets: readonly number[][], images: number): Value {
  const [a = 1, b = 1, height = 1, width = 1] = fixedShape(value.shape);
  const pixels = height * width;
  const flat = reshape(value, [a, b, pixels]);
  const [only = []] = offsets;
  if (offsets.length === 1 && only.length === pixels && only.every((offset, pixel) => offset === pixel)) return flat;
  // A pixel of zeros stands for all that lie outside.
  const isPadded = offsets.some((row) => row.includes(-1));
  const padded = isPadded ? concat([flat, expandTo(scalarLike(value, 0), [a, b, 1])], 2) : flat;
  const table = indexTable(value.graph, offsets, images, pixels + (isPadded ? 1 : 0));
  return images === 1 ? gather(padded, table, 2) : gather(reshape(padded, [a, -1]), table, 1);
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
