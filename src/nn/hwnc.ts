import type { Value } from '../graph/graph.ts';
import { add } from '../graph/ops/elementwise.ts';
import { gemm, matmul } from '../graph/ops/matmul.ts';
import { softmax } from '../graph/ops/normalization.ts';
import { reduceMean } from '../graph/ops/reduce.ts';
import { concat, expandTo, reshape, transpose } from '../graph/ops/shape.ts';
import { fixedShape } from '../graph/types.ts';
import {
  columnConvolution,
  fitsGather,
  fitsShiftedProduct,
  gatheredConvolution,
  shiftedProductConvolution,
} from './column-convolution.ts';
import { groupNormOfPixels } from './group-norm.ts';
import type { Layout, Projection } from './layout.ts';
import { fitsWinograd, winogradConvolution } from './winograd.ts';

/**
 * The order [height, width, batch, channels]: the channels of a pixel lie together, and so do the same pixels of all images. A
 * transform along an axis of the image is then one matrix product over long rows, and a convolution is a product without
 * a Transpose. The CPU trains networks on images in this layout.
 */
export const hwnc: Layout = {
  fromImages: (images) => transpose(images, [2, 3, 0, 1]),
  toImages: (maps) => transpose(maps, [2, 3, 0, 1]),
  imageAxes: [2, 3, 0, 1],
  filterAxes: [2, 3, 1, 0],

  conv2d: (maps, filters, bias, { strides = [1, 1], pads = [0, 0, 0, 0] }) => {
    const geometry = { strides, pads };
    if (fitsWinograd(maps, filters, geometry)) return winogradConvolution(maps, filters, bias);
    if (fitsShiftedProduct(filters, geometry)) return add(shiftedProductConvolution(maps, filters, geometry), bias);
    if (fitsGather(maps, filters, geometry)) return gatheredConvolution(maps, filters, bias);
    return columnConvolution(maps, filters, bias, geometry);
  },

  groupNorm: groupNormOfPixels,
  perChannel: (values) => values,
  concatChannels: (maps) => concat(maps, 3),

  upsampleNearest2x: (maps) => {
    const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
    const single = reshape(maps, [height, 1, width, 1, batch, channels]);
    return reshape(expandTo(single, [height, 2, width, 2, batch, channels]), [2 * height, 2 * width, batch, channels]);
  },

  averagePool2x: (maps) => {
    const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
    return reduceMean(reshape(maps, [height / 2, 2, width / 2, 2, batch, channels]), [1, 3]);
  },

  attention: (maps, { query, key, value, output }, headDim) => {
    const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
    const [inner = 1] = fixedShape(query.weight.shape);
    const rows = reshape(maps, [-1, channels]);
    const project = ({ weight, bias }: Projection, x: Value, scale = 1) =>
      gemm(x, weight, bias, { transB: true, alpha: scale, beta: scale });
    // [batch, heads, pixels, headDim]
    const toHeads = (projection: Projection, scale?: number) =>
      transpose(
        reshape(project(projection, rows, scale), [height * width, batch, inner / headDim, headDim]),
        [1, 2, 0, 3],
      );
    const queries = toHeads(query, headDim ** -0.5);
    const weights = softmax(matmul(queries, transpose(toHeads(key), [0, 1, 3, 2])));
    const mixed = transpose(matmul(weights, toHeads(value)), [2, 0, 1, 3]);
    return reshape(project(output, reshape(mixed, [-1, inner])), [height, width, batch, channels]);
  },
};
