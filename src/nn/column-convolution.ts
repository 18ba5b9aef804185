import { withGradient } from '../graph/autodiff/custom.ts';
import { isRecomputable, recomputable, recomputed } from '../graph/autodiff/recompute.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { add } from '../graph/ops/elementwise.ts';
import { gather, pad } from '../graph/ops/indexing.ts';
import { gemm, matmul } from '../graph/ops/matmul.ts';
import { reduceSum } from '../graph/ops/reduce.ts';
import { concat, reshape, split, transpose } from '../graph/ops/shape.ts';
import { apply, int64Vector } from '../graph/registry.ts';
import { fixedShape } from '../graph/types.ts';

export interface MapGeometry {
  readonly strides: readonly [number, number];
  /** Top, left, bottom, right. */
  readonly pads: readonly [number, number, number, number];
}

/** A convolution as one product of columns (im2col): maps [height, width, batch, in], filters [kh, kw, in, out], bias [out]. */
export function columnConvolution(maps: Value, filters: Value, bias: Value, geometry: MapGeometry): Value {
  const [kernelHeight = 1, kernelWidth = 1, channels = 1, outputs = 1] = fixedShape(filters.shape);
  const [, , batch = 1] = fixedShape(maps.shape);
  const size = outputSize(maps, filters, geometry);
  const columnsOf = (maps: Value) => {
    const padded = padPixels(maps, geometry);
    const taps = Array.from({ length: kernelHeight * kernelWidth }, (_, tap) =>
      window(padded, [Math.floor(tap / kernelWidth), tap % kernelWidth], size, geometry.strides),
    );
    return reshape(concat(taps, 3), [-1, kernelHeight * kernelWidth * channels]);
  };
  const columns = columnsOf(maps);
  if (isRecomputable(maps)) recomputable(columns, (trigger) => columnsOf(recomputed(maps, trigger)));
  // Reshaping a parameter copies it. The backward pass reshapes with -1, so that onnxruntime does not share the first copy.
  const byRow = recomputable(reshape(filters, [kernelHeight * kernelWidth * channels, outputs]), () =>
    reshape(filters, [-1, outputs]),
  );
  return reshape(gemm(columns, byRow, bias), [...size, batch, outputs]);
}

/**
 * Whether `gatheredConvolution` computes the convolution, and there are so many pixels that turning the filters costs little
 * beside them.
 */
export function fitsGather(maps: Value, filters: Value, { strides, pads }: MapGeometry): boolean {
  const [height = 1, width = 1, batch = 1] = fixedShape(maps.shape);
  const [kernelHeight = 1, kernelWidth = 1, channels = 1, outputs = 1] = fixedShape(filters.shape);
  const [edgeDown, edgeAcross] = [(kernelHeight - 1) / 2, (kernelWidth - 1) / 2];
  const keepsSize = pads.every((length, side) => length === (side % 2 === 0 ? edgeDown : edgeAcross));
  const isSameSize = strides.every((stride) => stride === 1) && keepsSize;
  return isSameSize && kernelHeight * kernelWidth > 1 && height * width * batch >= 2 * Math.max(channels, outputs);
}

/**
 * A convolution that keeps the size of the maps, as one product of columns that a Gather makes. The gradient of the maps is the
 * convolution of dy with the filters turned by 180 degrees. That of the filters takes the columns of the side that has fewer
 * channels, so the columns of the forward pass are not kept.
 */
export function gatheredConvolution(maps: Value, filters: Value, bias: Value): Value {
  const [kernelHeight = 1, kernelWidth = 1, channels = 1, outputs = 1] = fixedShape(filters.shape);
  const [height = 1, width = 1, batch = 1] = fixedShape(maps.shape);
  const taps = kernelHeight * kernelWidth;
  const kernel = [kernelHeight, kernelWidth] as const;
  const output = gemm(gatheredColumns(maps, kernel), reshape(filters, [taps * channels, outputs]), bias);
  return withGradient(reshape(output, [height, width, batch, outputs]), [maps, filters, bias], (dy, needed) => {
    const again = recomputed(maps, dy);
    const places = Int32Array.from({ length: taps }, (_, tap) => taps - 1 - tap);
    const turned = (byTap: Value) => gather(byTap, maps.graph.constant('int32', [taps], places));
    const columns = needed.has(maps) || outputs <= channels ? gatheredColumns(dy, kernel) : undefined;
    const ofMaps = () => {
      if (!columns || !needed.has(maps)) return undefined;
      const weights = transpose(turned(reshape(filters, [taps, channels, -1])), [0, 2, 1]);
      return reshape(gemm(columns, reshape(weights, [taps * outputs, channels])), [height, width, batch, channels]);
    };
    const ofFilters = () => {
      const rows = (value: Value) => reshape(value, [height * width * batch, -1]);
      if (!columns || outputs > channels)
        return gemm(gatheredColumns(again, kernel), rows(dy), undefined, { transA: true });
      const product = gemm(rows(again), columns, undefined, { transA: true });
      return turned(transpose(reshape(product, [channels, taps, outputs]), [1, 0, 2]));
    };
    return [ofMaps(), reshape(ofFilters(), fixedShape(filters.shape)), reduceSum(dy, [0, 1, 2])];
  });
}

/** [height, width, batch, channels] with a border of zeros: [height * width * batch, taps * channels]. */
function gatheredColumns(maps: Value, [kernelHeight, kernelWidth]: readonly [number, number]): Value {
  const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
  const [edgeDown, edgeAcross] = [(kernelHeight - 1) / 2, (kernelWidth - 1) / 2];
  const padded = pad(maps, [edgeDown, edgeAcross, 0, 0, edgeDown, edgeAcross, 0, 0]);
  const indices = columnTable(maps.graph, [height, width, batch, kernelHeight, kernelWidth]);
  return reshape(gather(reshape(padded, [-1, channels]), indices), [-1, kernelHeight * kernelWidth * channels]);
}

const tables = new WeakMap<Graph, Map<string, Value>>();

/** For each row of columns and each tap, the row of the padded maps: int32 [height * width * batch * taps]. */
function columnTable(graph: Graph, sizes: readonly [number, number, number, number, number]): Value {
  const known = tables.get(graph) ?? new Map<string, Value>();
  tables.set(graph, known);
  const found = known.get(sizes.join());
  if (found) return found;
  const [height, width, batch, kernelHeight, kernelWidth] = sizes;
  const [taps, paddedWidth] = [kernelHeight * kernelWidth, width + kernelWidth - 1];
  const indices = new Int32Array(height * width * batch * taps);
  let at = 0;
  for (let pixel = 0; pixel < height * width; pixel++)
    for (let image = 0; image < batch; image++)
      for (let tap = 0; tap < taps; tap++) {
        const row = Math.floor(pixel / width) + Math.floor(tap / kernelWidth);
        indices[at++] = (row * paddedWidth + (pixel % width) + (tap % kernelWidth)) * batch + image;
      }
  const table = graph.constant('int32', [indices.length], indices);
  known.set(sizes.join(), table);
  return table;
}

/** Whether the filters have so few outputs that moving the results is cheaper than moving the inputs. */
export function fitsShiftedProduct(filters: Value, { strides }: MapGeometry): boolean {
  const [kernelHeight = 1, kernelWidth = 1, channels = 1, outputs = 1] = fixedShape(filters.shape);
  return kernelHeight * kernelWidth > 1 && outputs * 16 <= channels && strides.every((stride) => stride === 1);
}

/** The same convolution without the bias: one product of the maps with all taps, then the sum of the shifted results. */
export function shiftedProductConvolution(maps: Value, filters: Value, geometry: MapGeometry): Value {
  const [kernelHeight = 1, kernelWidth = 1, channels = 1, outputs = 1] = fixedShape(filters.shape);
  const [height = 1, width = 1, batch = 1] = fixedShape(maps.shape);
  const taps = kernelHeight * kernelWidth;
  const byChannel = reshape(transpose(reshape(filters, [taps, channels, outputs]), [1, 0, 2]), [channels, -1]);
  const products = reshape(matmul(reshape(maps, [-1, channels]), byChannel), [height, width, batch, -1]);
  const size = outputSize(maps, filters, geometry);
  return split(padPixels(products, geometry), Array<number>(taps).fill(outputs), 3)
    .map((product, tap) => window(product, [Math.floor(tap / kernelWidth), tap % kernelWidth], size, geometry.strides))
    .reduce((sum, product) => add(sum, product));
}

function outputSize(maps: Value, filters: Value, { strides, pads }: MapGeometry): [number, number] {
  const [height = 1, width = 1] = fixedShape(maps.shape);
  const [kernelHeight = 1, kernelWidth = 1] = fixedShape(filters.shape);
  return [
    Math.floor((height + pads[0] + pads[2] - kernelHeight) / strides[0]) + 1,
    Math.floor((width + pads[1] + pads[3] - kernelWidth) / strides[1]) + 1,
  ];
}

/** Adds a border of zeros. Below and to the right it is widened until height and width are multiples of the strides. */
function padPixels(maps: Value, { pads: [top, left, bottom, right], strides }: MapGeometry): Value {
  const [height = 1, width = 1] = fixedShape(maps.shape);
  const missing = (length: number, stride: number) => (stride - (length % stride)) % stride;
  const below = bottom + missing(top + height + bottom, strides[0]);
  const beside = right + missing(left + width + right, strides[1]);
  return pad(maps, [top, left, 0, 0, below, beside, 0, 0]);
}

/** The pixels that one tap of the filters reads. */
function window(
  padded: Value,
  [top, left]: readonly [number, number],
  [height, width]: readonly [number, number],
  [down, across]: readonly [number, number],
): Value {
  const [paddedHeight = 1, paddedWidth = 1, batch = 1, channels = 1] = fixedShape(padded.shape);
  if (paddedHeight === height && paddedWidth === width) return padded;
  // The pixels of a stride become an axis of their own: then no Slice needs steps.
  const byStride = reshape(padded, [paddedHeight / down, down, paddedWidth / across, across, batch, channels]);
  const starts = [Math.floor(top / down), top % down, Math.floor(left / across), left % across];
  const lengths = [height, 1, width, 1];
  const pixels = apply('Slice', [
    byStride,
    int64Vector(padded, starts),
    int64Vector(
      padded,
      starts.map((start, axis) => start + (lengths[axis] ?? 1)),
    ),
    int64Vector(padded, [0, 1, 2, 3]),
  ]);
  return reshape(pixels, [height, width, batch, channels]);
}
