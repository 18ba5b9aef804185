import { GraphError } from '../../errors.ts';
import { withGradient } from '../autodiff/custom-gradient.ts';
import { after } from '../autodiff/evaluation-order.ts';
import { recomputable } from '../autodiff/recompute.ts';
import type { Value } from '../graph.ts';
import { scalarLike } from '../registry.ts';
import { elementCount, fixedShape, formatShape } from '../types.ts';
import { add, div, mul, neg, reciprocal, sqrt, square, sub } from './elementwise.ts';
import { reduceSum } from './reduce.ts';
import { reshape } from './reshape.ts';

/** Where the pixels and the channels of feature maps of rank 4 lie, and how the backward pass comes by the result. */
export interface MapOrder {
  readonly pixelAxes: readonly [number, number];
  readonly channelAxis: number;
  /** The shape in which [batch, channels] goes with every pixel; 0 stands for the batch. */
  readonly perChannel: (channels: number) => readonly number[];
  /** Whether the result is computed again (see `recomputable`) instead of kept. */
  readonly recomputed: boolean;
}

const CHANNELS_FIRST: MapOrder = {
  pixelAxes: [2, 3],
  channelAxis: 1,
  perChannel: (channels) => [0, channels, 1, 1],
  recomputed: false,
};

/**
 * Group normalisation (Wu & He 2018) as in torch, biased variance: x [batch, channels, height, width] or in another
 * `order`, weight and bias [channels].
 *
 * Scale and shift are folded into one factor and one summand for each image and channel, so that the forward pass goes
 * over the pixels four times, and the backward pass, which needs x alone, seven times.
 *
 * @throws {GraphError} when the groups do not divide the channels.
 */
export function groupNorm(
  x: Value,
  groups: number,
  weight: Value,
  bias: Value,
  epsilon: number,
  { pixelAxes, channelAxis, perChannel, recomputed }: MapOrder = CHANNELS_FIRST,
): Value {
  const [channels = 0, height = 0, width = 0] = fixedShape(
    [channelAxis, ...pixelAxes].map((axis) => x.shape[axis] ?? 0),
  );
  if (x.shape.length !== 4 || channels % groups !== 0)
    throw new GraphError(`groupNorm: ${groups} groups do not divide the channels of ${formatShape(x.shape)}`);
  const perGroup = channels / groups;
  const count = scalarLike(x, perGroup * height * width);
  // Statistics are [batch, groups, 1], what belongs to channels [batch, groups, channels per group].
  const sumOverPixels = (value: Value) => reshape(reduceSum(value, pixelAxes), [0, groups, perGroup]);
  const sumOverGroup = (value: Value) => reduceSum(value, [2], { keepdims: true });
  const toPixels = (value: Value) => reshape(value, perChannel(channels));
  const grouped = (value: Value) => reshape(value, [groups, perGroup]);
  const mean = div(sumOverGroup(sumOverPixels(x)), count);
  const variance = sub(div(sumOverGroup(sumOverPixels(square(x))), count), square(mean));
  const inverse = reciprocal(sqrt(add(variance, scalarLike(x, epsilon))));
  const scale = mul(inverse, grouped(weight));
  const shift = sub(grouped(bias), mul(mean, scale));
  const factor = toPixels(scale);
  const summand = toPixels(shift);
  const output = add(mul(x, factor), summand);
  if (recomputed) recomputable(output, (trigger) => add(mul(x, after(factor, [trigger])), summand));

  return withGradient(output, [x, weight, bias], (dy) => {
    const dyTotal = sumOverPixels(dy);
    // The sum of dy times the normalised x, which is not kept.
    const dyNormalised = mul(sub(sumOverPixels(mul(dy, x)), mul(mean, dyTotal)), inverse);
    const meanOfDy = div(sumOverGroup(mul(dyTotal, grouped(weight))), count);
    const meanOfProduct = div(sumOverGroup(mul(dyNormalised, grouped(weight))), count);
    const slope = neg(mul(mul(inverse, inverse), meanOfProduct));
    const offset = neg(add(mul(slope, mean), mul(inverse, meanOfDy)));
    const sameInGroup = (value: Value) => toPixels(mul(value, onesLike(grouped(weight))));
    const dx = add(add(mul(dy, factor), mul(x, sameInGroup(slope))), sameInGroup(offset));
    const overBatch = (value: Value) => reshape(reduceSum(value, [0]), [channels]);
    return [dx, overBatch(dyNormalised), overBatch(dyTotal)];
  });
}

function onesLike(value: Value): Value {
  const shape = fixedShape(value.shape);
  const data =
    value.dtype === 'float64' ? new Float64Array(elementCount(shape)) : new Float32Array(elementCount(shape));
  return value.graph.constant(value.dtype, shape, data.fill(1));
}
