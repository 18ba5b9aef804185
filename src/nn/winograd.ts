import { GraphError } from '../errors.ts';
import { withGradient } from '../graph/autodiff/custom.ts';
import { isWorthRecomputing, orderedAfter, recomputed } from '../graph/autodiff/recompute.ts';
import type { Value } from '../graph/graph.ts';
import { add } from '../graph/ops/elementwise.ts';
import { gemm, matmul } from '../graph/ops/matmul.ts';
import { reduceSum } from '../graph/ops/reduce.ts';
import { reshape, transpose } from '../graph/ops/shape.ts';
import { ints } from '../graph/registry.ts';
import { fixedShape, toTensorData } from '../graph/types.ts';
import type { MapGeometry } from './column-convolution.ts';

/**
 * 3x3 convolutions by Winograd's F(4x4, 3x3) with the points 0, 1, -1, 2, -2 and infinity (Lavin & Gray 2016, "Fast
 * Algorithms for Convolutional Neural Networks", section 4): a tile of 4x4 outputs takes 36 products instead of 144,
 * in the gradients too. In float32 the error is about ten times that of the plain sum, and float16 has no digits to spare.
 */
const INPUT = [
  [4, 0, -5, 0, 1, 0],
  [0, -4, -4, 1, 1, 0],
  [0, 4, -4, -1, 1, 0],
  [0, -2, -1, 2, 1, 0],
  [0, 2, -1, -2, 1, 0],
  [0, 4, 0, -5, 0, 1],
];
const FILTER = [
  [1 / 4, 0, 0],
  [-1 / 6, -1 / 6, -1 / 6],
  [-1 / 6, 1 / 6, -1 / 6],
  [1 / 24, 1 / 12, 1 / 6],
  [1 / 24, -1 / 12, 1 / 6],
  [0, 0, 1],
];
const OUTPUT = [
  [1, 1, 1, 1, 1, 0],
  [0, 1, -1, 2, -2, 0],
  [0, 1, 1, 4, 4, 0],
  [0, 1, -1, 8, -8, 1],
];
const POINTS = 6;
const TILE = 4;

/** From these sizes on it is faster than columns, by bench/conv-formulations.ts. */
const MIN_TILES = 32;
const MIN_CHANNELS = 16;
/**
 * On longer axes maps are transformed tile by tile: a product along a whole axis has as many summands as the axis has pixels.
 * At 64 and at 128 pixels that takes 1.7 times as long.
 */
const LONG_AXIS = 32;

/** Whether the convolution is one that `winogradConvolution` computes, and large enough to gain by it. */
export function fitsWinograd(maps: Value, filters: Value, { strides, pads }: MapGeometry): boolean {
  const [height = 1, width = 1, batch = 1] = fixedShape(maps.shape);
  const [kernelHeight, kernelWidth, channels = 1, outputs = 1] = fixedShape(filters.shape);
  const geometryFits =
    kernelHeight === 3 && kernelWidth === 3 && strides.every((s) => s === 1) && pads.every((p) => p === 1);
  const tiles = (batch * height * width) / TILE ** 2;
  return (
    maps.dtype !== 'float16' &&
    geometryFits &&
    height % TILE === 0 &&
    width % TILE === 0 &&
    tiles >= MIN_TILES &&
    Math.min(channels, outputs) >= MIN_CHANNELS
  );
}

/**
 * maps [height, width, batch, in] with filters [3, 3, in, out], bias [out] and a border of one:
 * [height, width, batch, out].
 */
export function winogradConvolution(maps: Value, filters: Value, bias: Value): Value {
  const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
  const [, , , outputs = 1] = fixedShape(filters.shape);
  const shape = [height, width, batch, outputs];
  const transform = matrix(filters, 'filter', () => kronecker(FILTER));
  const filterPoints = (transform: Value, byTap: Value) =>
    reshape(matmul(transform, byTap), [POINTS ** 2, channels, outputs]);
  const points = toPoints(maps);
  const weights = filterPoints(transform, reshape(filters, [9, channels * outputs]));
  const product = matmul(points, weights);
  const output = add(fromPoints(product, shape), bias);

  // The transforms of large maps and filters are larger than these are, so they are computed again here. dx waits for the
  // other gradients: then dy and its transform can be freed early.
  return withGradient(output, [maps, filters, bias], (dy) => {
    const dBias = reduceSum(dy, [0, 1, 2]);
    const dProduct = fromPointsAdjoint(dy);
    const again = recomputed(maps, dy);
    const pointsAgain = again === maps ? points : toPoints(again);
    const dWeights = matmul(transpose(pointsAgain, [0, 2, 1]), dProduct);
    const byFilterTap = gemm(transform, reshape(dWeights, [POINTS ** 2, -1]), undefined, { transA: true });
    const dFilters = reshape(byFilterTap, fixedShape(filters.shape));
    // Reshaping a parameter copies it. A different Reshape than before keeps onnxruntime from sharing the first copy.
    const weightsAgain = isWorthRecomputing(filters)
      ? filterPoints(orderedAfter(transform, [dFilters, dBias]), reshape(filters, [9, -1]))
      : weights;
    const dPoints = matmul(dProduct, transpose(weightsAgain, [0, 2, 1]));
    return [toPointsAdjoint(dPoints, fixedShape(maps.shape)), dFilters, dBias];
  });
}

/** B^T d B of every tile: [height, width, batch, channels] to [36, tiles of all images, channels]. */
function toPoints(maps: Value): Value {
  const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
  // onnxruntime has no Conv of float64.
  if (Math.max(height, width) > LONG_AXIS && maps.dtype === 'float32') return pointsByTile(maps);
  const [rows, columns, depth] = [height / TILE, width / TILE, batch * channels];
  const vertical = matmul(tileMatrix(maps, height), reshape(maps, [height, width * depth]));
  const points = matmul(tileMatrix(maps, width), reshape(vertical, [POINTS * rows, width, depth]));
  const byPoint = transpose(reshape(points, [POINTS, rows, POINTS, columns, depth]), [0, 2, 1, 3, 4]);
  return reshape(byPoint, [POINTS ** 2, rows * columns * batch, channels]);
}

/** The same as one product for each tile: a convolution in three axes, which writes the points where they belong. */
function pointsByTile(maps: Value): Value {
  const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
  const [rows, columns, depth] = [height / TILE, width / TILE, batch * channels];
  const transform = maps.graph.constantOnce(`Winograd's transform of ${maps.dtype}: a tile`, () => ({
    dtype: maps.dtype,
    shape: [POINTS ** 2, 1, POINTS, POINTS, 1],
    data: toTensorData(maps.dtype, kronecker(INPUT).flat()),
  }));
  const [points] = maps.graph.addNode(
    'Conv',
    [reshape(maps, [1, 1, height, width, depth]), transform],
    { strides: ints([TILE, TILE, 1]), pads: ints([1, 1, 0, 1, 1, 0]) },
    [{ dtype: maps.dtype, shape: [1, POINTS ** 2, rows, columns, depth] }],
  ).outputs;
  if (!points) throw new GraphError('a convolution has no output');
  return reshape(points, [POINTS ** 2, rows * columns * batch, channels]);
}

function toPointsAdjoint(points: Value, [height = 1, width = 1, batch = 1, channels = 1]: number[]): Value {
  const [rows, columns, depth] = [height / TILE, width / TILE, batch * channels];
  const byRow = transpose(reshape(points, [POINTS, POINTS, rows, columns, depth]), [0, 2, 1, 3, 4]);
  const vertical = matmul(
    tileMatrix(points, width, 'transposed'),
    reshape(byRow, [POINTS * rows, POINTS * columns, depth]),
  );
  const maps = matmul(tileMatrix(points, height, 'transposed'), reshape(vertical, [POINTS * rows, width * depth]));
  return reshape(maps, [height, width, batch, channels]);
}

/** A^T m A of every tile: [36, tiles of all images, channels] to [height, width, batch, channels]. */
function fromPoints(points: Value, [height = 1, width = 1, batch = 1, channels = 1]: number[]): Value {
  const [rows, columns, depth] = [height / TILE, width / TILE, batch * channels];
  const combine = matrix(points, 'output', () => OUTPUT);
  const vertical = matmul(combine, reshape(points, [POINTS, -1]));
  const tiles = matmul(combine, reshape(vertical, [TILE, POINTS, -1]));
  const inOrder = transpose(reshape(tiles, [TILE, TILE, rows, columns, depth]), [2, 0, 3, 1, 4]);
  return reshape(inOrder, [height, width, batch, channels]);
}

function fromPointsAdjoint(maps: Value): Value {
  const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
  const [rows, columns, depth] = [height / TILE, width / TILE, batch * channels];
  const spread = matrix(maps, 'output', () => OUTPUT, 'transposed');
  const tiles = transpose(reshape(maps, [rows, TILE, columns, TILE, depth]), [1, 3, 0, 2, 4]);
  const horizontal = matmul(spread, reshape(tiles, [TILE, TILE, -1]));
  return reshape(matmul(spread, reshape(horizontal, [TILE, -1])), [POINTS ** 2, -1, channels]);
}

/** The matrix that takes an axis of the image, with a border of one, to the points of its tiles, point by point. */
function tileMatrix(like: Value, length: number, order?: 'transposed'): Value {
  return matrix(like, `tiles of ${length}`, () => tileRows(length), order);
}

function tileRows(length: number): number[][] {
  const tiles = length / TILE;
  return INPUT.flatMap((weights) =>
    Array.from({ length: tiles }, (_, tile) => {
      const row = Array<number>(length).fill(0);
      weights.forEach((weight, offset) => {
        const position = TILE * tile + offset - 1;
        if (position >= 0 && position < length) row[position] = weight;
      });
      return row;
    }),
  );
}

/** The transform of both axes of a filter at once. */
function kronecker(rows: readonly (readonly number[])[]): number[][] {
  return rows.flatMap((a) => rows.map((b) => a.flatMap((x) => b.map((y) => x * y))));
}

/** Rows, or the columns as rows, as a constant of the type of `like`. */
function matrix(
  { graph, dtype }: Value,
  name: string,
  rows: () => readonly (readonly number[])[],
  order: 'as it is' | 'transposed' = 'as it is',
): Value {
  return graph.constantOnce(`Winograd's transform of ${dtype}: ${name}, ${order}`, () => {
    const given = rows();
    const made =
      order === 'transposed' ? (given[0] ?? []).map((_, column) => given.map((row) => row[column] ?? 0)) : given;
    return { dtype, shape: [made.length, made[0]?.length ?? 0], data: toTensorData(dtype, made.flat()) };
  });
}
