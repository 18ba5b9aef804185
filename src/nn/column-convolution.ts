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
    const taps = windows(padPixels(maps, geometry), [kernelHeight, kernelWidth], size, geometry.strides);
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
 * Whether `gatheredConvolution` computes the convolution, and there are so many pixels that transposing the filters costs
 * little beside them.
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
 * convolution of dy with the filters turned by 180 degrees: its columns have the taps in the opposite order instead. That of the
 * filters takes the columns of the side that has fewer channels. Those of the forward pass are kept only where the maps are.
 */
export function gatheredConvolution(maps: Value, filters: Value, bias: Value): Value {
  const [kernelHeight = 1, kernelWidth = 1, channels = 1, outputs = 1] = fixedShape(filters.shape);
  const [height = 1, width = 1, batch = 1] = fixedShape(maps.shape);
  const taps = kernelHeight * kernelWidth;
  const kernel = [kernelHeight, kernelWidth] as const;
  const kept = gatheredColumns(maps, kernel, 'forwards');
  const output = gemm(kept, reshape(filters, [taps * channels, outputs]), bias);
  return withGradient(reshape(output, [height, width, batch, outputs]), [maps, filters, bias], (dy, needed) => {
    const again = recomputed(maps, dy);
    const columns = needed.has(maps) || outputs <= channels ? gatheredColumns(dy, kernel, 'backwards') : undefined;
    const ofMaps = () => {
      if (!columns || !needed.has(maps)) return undefined;
      const weights = reshape(transpose(filters, [0, 1, 3, 2]), [taps * outputs, channels]);
      return reshape(gemm(columns, weights), [height, width, batch, channels]);
    };
    const ofFilters = () => {
      const rows = (value: Value) => reshape(value, [height * width * batch, -1]);
      if (!columns || outputs > channels) {
        const columnsOfMaps = again === maps ? kept : gatheredColumns(again, kernel, 'forwards');
        return reshape(gemm(columnsOfMaps, rows(dy), undefined, { transA: true }), fixedShape(filters.shape));
      }
      const product = gemm(rows(again), columns, undefined, { transA: true });
      return transpose(reshape(product, [channels, ...kernel, outputs]), [1, 2, 0, 3]);
    };
    return [ofMaps(), ofFilters(), reduceSum(dy, [0, 1, 2])];
  });
}

/** The order of the taps in the columns of a convolution. */
type TapOrder = 'forwards' | 'backwards';

/** [height, width, batch, channels] with a border of zeros: [height * width * batch, taps * channels]. */
function gatheredColumns(maps: Value, kernel: readonly [number, number], order: TapOrder): Value {
  const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
  const [edgeDown = 0, edgeAcross = 0] = kernel.map((length) => (length - 1) / 2);
  const padded = pad(maps, [edgeDown, edgeAcross, 0, 0, edgeDown, edgeAcross, 0, 0]);
  const rows = columnTable(maps.graph, [height, width, batch, ...kernel], order);
  return reshape(gather(reshape(padded, [-1, channels]), rows), [-1, kernel[0] * kernel[1] * channels]);
}

/** For each row of columns and each tap, the row of the padded maps: int32 [height * width * batch * taps]. */
function columnTable(graph: Graph, sizes: readonly [number, number, number, number, number], order: TapOrder): Value {
  return graph.constantOnce(`rows of columns ${sizes.join(' ')} ${order}`, () => {
    const [height, width, batch, kernelHeight, kernelWidth] = sizes;
    const [taps, paddedWidth] = [kernelHeight * kernelWidth, width + kernelWidth - 1];
    const data = new Int32Array(height * width * batch * taps);
    let at = 0;
    for (let pixel = 0; pixel < height * width; pixel++)
      for (let image = 0; image < batch; image++)
        for (let place = 0; place < taps; place++) {
          const tap = order === 'forwards' ? place : taps - 1 - place;
          const row = Math.floor(pixel / width) + Math.floor(tap / kernelWidth);
          data[at++] = (row * paddedWidth + (pixel % width) + (tap % kernelWidth)) * batch + image;
        }
    return { dtype: 'int32', shape: [data.length], data };
  });
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
    .map((product, tap) => cutOut(product, [Math.floor(tap / kernelWidth), tap % kernelWidth], size))
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

/** The pixels that each tap of the filters reads. */
function windows(
  padded: Value,
  [kernelHeight, kernelWidth]: readonly [number, number],
  [height, width]: readonly [number, number],
  [down, across]: readonly [number, number],
): Value[] {
  const taps = Array.from(
    { length: kernelHeight * kernelWidth },
    (_, tap) => [Math.floor(tap / kernelWidth), tap % kernelWidth] as const,
  );
  if (down === 1 && across === 1) return taps.map((start) => cutOut(padded, start, [height, width]));
  const [paddedHeight = 1, paddedWidth = 1, batch = 1, channels = 1] = fixedShape(padded.shape);
  // The pixels of a stride become an axis of their own: then no Slice needs steps.
  const byStride = reshape(padded, [paddedHeight / down, down, paddedWidth / across, across, batch, channels]);
  return taps.map(([top, left]) => {
    const start = [Math.floor(top / down), top % down, Math.floor(left / across), left % across];
    return reshape(cutOut(byStride, start, [height, 1, width, 1]), [height, width, batch, channels]);
  });
}

/** `lengths` elements from `starts` on, along the first axes. */
function cutOut(maps: Value, starts: readonly number[], lengths: readonly number[]): Value {
  if (lengths.every((length, axis) => length === maps.shape[axis])) return maps;
  const ends = starts.map((start, axis) => start + (lengths[axis] ?? 1));
  return apply('Slice', [
    maps,
    int64Vector(maps, starts),
    int64Vector(maps, ends),
    int64Vector(maps, [...starts.keys()]),
  ]);
}
