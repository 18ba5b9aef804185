import { isRecomputable, recomputable, recomputed } from '../graph/autodiff/recompute.ts';
import type { Value } from '../graph/graph.ts';
import { add } from '../graph/ops/elementwise.ts';
import { pad } from '../graph/ops/indexing.ts';
import { gemm, matmul } from '../graph/ops/matmul.ts';
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
