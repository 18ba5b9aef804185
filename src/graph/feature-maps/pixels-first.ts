import { GraphError } from '../../errors.ts';
import { withGradient } from '../custom-gradient.ts';
import { after } from '../evaluation-order.ts';
import type { Value } from '../graph.ts';
import { scalarLike } from '../op-registry.ts';
import { add, div, mul, neg, reciprocal, sqrt, square, sub } from '../ops/elementwise.ts';
import { gemm, matmul } from '../ops/matmul.ts';
import { softmax } from '../ops/normalization.ts';
import { reduceSum } from '../ops/reduce.ts';
import { concat, expandTo, reshape, transpose } from '../ops/reshape.ts';
import { recomputable } from '../recompute.ts';
import { fixedShape, formatShape } from '../tensor-type.ts';
import { columnConvolution, fitsShiftedProduct, shiftedProductConvolution } from './column-convolution.ts';
import type { FeatureMaps, Projection } from './feature-maps.ts';
import { fitsWinograd, winogradConvolution } from './winograd.ts';

/**
 * [height, width, batch, channels]: the channels of a pixel, and those of all images, lie together. Every
 * transform along an axis of the picture is then one matrix product over long rows, and convolutions are products
 * without a Transpose: the order in which the CPU trains.
 */
export const pixelsFirst: FeatureMaps = {
  fromImages: (images) => transpose(images, [2, 3, 0, 1]),
  toImages: (maps) => transpose(maps, [2, 3, 0, 1]),
  channels: (maps) => fixedShape(maps.shape)[3] ?? 1,
  filterAxes: [2, 3, 1, 0],

  conv2d: (maps, filters, bias, { strides = [1, 1], pads = [0, 0, 0, 0] }) => {
    const geometry = { strides, pads };
    if (fitsWinograd(maps, filters, geometry)) return winogradConvolution(maps, filters, bias);
    if (fitsShiftedProduct(filters, geometry))
      return add(shiftedProductConvolution(maps, filters, geometry), bias);
    return columnConvolution(maps, filters, bias, geometry);
  },

  groupNorm,
  perChannel: (values) => values,
  concatChannels: (maps) => concat(maps, 3),

  upsampleNearest2x: (maps) => {
    const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
    const single = reshape(maps, [height, 1, width, 1, batch, channels]);
    return reshape(expandTo(single, [height, 2, width, 2, batch, channels]), [
      2 * height,
      2 * width,
      batch,
      channels,
    ]);
  },

  attention: (maps, { query, key, value, output }, headDim) => {
    const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(maps.shape);
    const rows = reshape(maps, [-1, channels]);
    const project = ({ weight, bias }: Projection, x: Value) => gemm(x, weight, bias, { transB: true });
    // [batch, heads, pixels, headDim]
    const toHeads = (projection: Projection) =>
      transpose(
        reshape(project(projection, rows), [height * width, batch, channels / headDim, headDim]),
        [1, 2, 0, 3],
      );
    const scaled = mul(toHeads(query), scalarLike(maps, headDim ** -0.5));
    const weights = softmax(matmul(scaled, transpose(toHeads(key), [0, 1, 3, 2])));
    const mixed = transpose(matmul(weights, toHeads(value)), [2, 0, 1, 3]);
    return reshape(project(output, reshape(mixed, [-1, channels])), [height, width, batch, channels]);
  },
};

/** As `groupNorm` of src/graph/ops/normalization.ts, with the sums over the leading axes. */
function groupNorm(x: Value, groups: number, weight: Value, bias: Value, epsilon: number): Value {
  const [height = 1, width = 1, batch = 1, channels = 1] = fixedShape(x.shape);
  if (x.shape.length !== 4 || channels % groups !== 0)
    throw new GraphError(`groupNorm: ${groups} groups do not divide the channels of ${formatShape(x.shape)}`);
  const perGroup = channels / groups;
  const count = scalarLike(x, perGroup * height * width);
  // Statistics are [batch, groups, 1], what belongs to channels [batch, groups, channels per group].
  const sumOverPixels = (value: Value) => reshape(reduceSum(value, [0, 1]), [batch, groups, perGroup]);
  const sumOverGroup = (value: Value) => reduceSum(value, [2], { keepdims: true });
  const toPixels = (perChannel: Value) => reshape(perChannel, [batch, channels]);
  const grouped = (perChannel: Value) => reshape(perChannel, [groups, perGroup]);
  const mean = div(sumOverGroup(sumOverPixels(x)), count);
  const variance = sub(div(sumOverGroup(sumOverPixels(square(x))), count), square(mean));
  const inverse = reciprocal(sqrt(add(variance, scalarLike(x, epsilon))));
  const scale = mul(inverse, grouped(weight));
  const shift = sub(grouped(bias), mul(mean, scale));
  const factor = toPixels(scale);
  const summand = toPixels(shift);
  const output = add(mul(x, factor), summand);
  recomputable(output, (trigger) => add(mul(x, after(factor, [trigger])), summand));

  return withGradient(output, [x, weight, bias], (dy) => {
    const dyTotal = sumOverPixels(dy);
    // The sum of dy times the normalised x, which is not kept.
    const dyNormalised = mul(sub(sumOverPixels(mul(dy, x)), mul(mean, dyTotal)), inverse);
    const meanOfDy = div(sumOverGroup(mul(dyTotal, grouped(weight))), count);
    const meanOfProduct = div(sumOverGroup(mul(dyNormalised, grouped(weight))), count);
    const slope = neg(mul(mul(inverse, inverse), meanOfProduct));
    const offset = neg(add(mul(slope, mean), mul(inverse, meanOfDy)));
    const sameInGroup = (value: Value) => toPixels(expandTo(value, [batch, groups, perGroup]));
    const dx = add(add(mul(dy, factor), mul(x, sameInGroup(slope))), sameInGroup(offset));
    const overBatch = (value: Value) => reshape(reduceSum(value, [0]), [channels]);
    return [dx, overBatch(dyNormalised), overBatch(dyTotal)];
  });
}
