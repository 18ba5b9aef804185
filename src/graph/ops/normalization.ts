import { GraphError } from '../../errors.ts';
import { withGradient } from '../autodiff/custom.ts';
import type { Value } from '../graph.ts';
import {
  apply,
  applyOp,
  axisAttribute,
  defineOp,
  float,
  floatAttribute,
  int,
  intAttribute,
  required,
  scalarLike,
} from '../registry.ts';
import { elementCount, fixedShape, formatShape, toTensorData } from '../types.ts';
import { add, cast, div, mul, neg, reciprocal, sqrt, square, sub, widened } from './elementwise.ts';
import { reduceMean, reduceSum } from './reduce.ts';
import { expandTo, reshape } from './shape.ts';

/**
 * Group normalisation (Wu & He 2018) as in torch, biased variance: x [batch, channels, height, width], weight and bias
 * [channels].
 *
 * Scale and shift are folded into one factor and one summand for each image and channel. The forward pass reads the pixels four
 * times. The backward pass needs only x, and reads them seven times. Sums and statistics of float16 are float32.
 *
 * @throws {GraphError} when the groups do not divide the channels.
 */
export function groupNorm(x: Value, groups: number, weight: Value, bias: Value, epsilon: number): Value {
  const [channels = 0, height = 0, width = 0] = fixedShape(x.shape.slice(1));
  if (x.shape.length !== 4 || channels % groups !== 0)
    throw new GraphError(`groupNorm: ${groups} groups do not divide the channels of ${formatShape(x.shape)}`);
  if (x.graph.target === 'cuda') return groupNormOfKernels(x, groups, weight, bias, epsilon);
  const perGroup = channels / groups;
  const [pixels, gamma, beta] = [widened(x), widened(weight), widened(bias)];
  const count = scalarLike(pixels, perGroup * height * width);
  // Statistics are [batch, groups, 1], what belongs to channels [batch, groups, channels per group].
  const sumOverPixels = (value: Value) => reshape(reduceSum(value, [2, 3]), [0, groups, perGroup]);
  const sumOverGroup = (value: Value) => reduceSum(value, [2], { keepdims: true });
  const toPixels = (value: Value) => cast(reshape(value, [0, channels, 1, 1]), x.dtype);
  const grouped = (value: Value) => reshape(value, [groups, perGroup]);
  const mean = div(sumOverGroup(sumOverPixels(pixels)), count);
  const variance = sub(div(sumOverGroup(sumOverPixels(square(pixels))), count), square(mean));
  const inverse = reciprocal(sqrt(add(variance, scalarLike(pixels, epsilon))));
  const scale = mul(inverse, grouped(gamma));
  const shift = sub(grouped(beta), mul(mean, scale));
  const factor = toPixels(scale);

  return withGradient(add(mul(x, factor), toPixels(shift)), [x, weight, bias], (dy) => {
    const dyTotal = sumOverPixels(widened(dy));
    // The sum of dy times the normalised x, which is not kept. Nor is x in float32, so the product is of the type of x.
    const dyNormalised = mul(sub(sumOverPixels(widened(mul(dy, x))), mul(mean, dyTotal)), inverse);
    const meanOfDy = div(sumOverGroup(mul(dyTotal, grouped(gamma))), count);
    const meanOfProduct = div(sumOverGroup(mul(dyNormalised, grouped(gamma))), count);
    const slope = neg(mul(mul(inverse, inverse), meanOfProduct));
    const offset = neg(add(mul(slope, mean), mul(inverse, meanOfDy)));
    const sameInGroup = (value: Value) => toPixels(mul(value, onesLike(value, [groups, perGroup])));
    const dx = add(add(mul(dy, factor), mul(x, sameInGroup(slope))), sameInGroup(offset));
    const overBatch = (value: Value) => cast(reshape(reduceSum(value, [0]), [channels]), weight.dtype);
    return [dx, overBatch(dyNormalised), overBatch(dyTotal)];
  });
}

/**
 * `groupNorm` for cuda, where memory is what takes time, and every node some microseconds.
 * LayerNormalization reads the pixels once and gives the statistics, BatchNormalization is factor and summand at once. Of
 * float16, both kernels and the sums over pixels compute in float32, and so does all that is not as large as x.
 */
function groupNormOfKernels(x: Value, groups: number, weight: Value, bias: Value, epsilon: number): Value {
  const [channels = 1, height = 1, width = 1] = fixedShape(x.shape.slice(1));
  const perGroup = channels / groups;
  const count = perGroup * height * width;
  const [normalised = x, , inverse = x] = applyOp(
    'LayerNormalization',
    [reshape(x, [0, groups, count]), expandTo(scalarLike(x, 1), [count])],
    { attributes: { axis: int(-1), epsilon: float(epsilon) }, outputCount: 3 },
  );
  const images = reshape(normalised, [0, channels, height, width]);
  return withGradient(scaledAndShifted(images, weight, bias), [x, weight, bias], (dy) => {
    const [batch = 1] = fixedShape(x.shape);
    const byGroup = (value: Value) => reshape(value, [batch, groups, perGroup]);
    const dyTotal = byGroup(widened(reduceSum(dy, [2, 3])));
    const dyNormalised = byGroup(widened(reduceSum(mul(dy, images), [2, 3])));
    const grouped = reshape(widened(weight), [groups, perGroup]);
    // [batch, groups, 1], less the mean over the group.
    const minusMean = (value: Value) =>
      mul(mul(reduceSum(mul(value, grouped), [2], { keepdims: true }), inverse), scalarLike(inverse, -1 / count));
    const rest = scaledAndShifted(
      reshape(normalised, [1, batch * groups, perGroup * height, width]),
      cast(reshape(minusMean(dyNormalised), [-1]), x.dtype),
      cast(reshape(minusMean(dyTotal), [-1]), x.dtype),
    );
    const factor = cast(reshape(mul(grouped, inverse), [batch, channels, 1, 1]), x.dtype);
    const overBatch = (value: Value) => cast(reshape(reduceSum(value, [0]), [channels]), weight.dtype);
    return [
      add(mul(dy, factor), reshape(rest, [batch, channels, height, width])),
      overBatch(dyNormalised),
      overBatch(dyTotal),
    ];
  });
}

/** A factor and a summand for each channel of [batch, channels, height, width]. */
function scaledAndShifted(x: Value, scale: Value, bias: Value): Value {
  const channels = fixedShape(scale.shape);
  const [mean, variance] = [0, 1].map((value) => expandTo(scalarLike(x, value), channels)) as [Value, Value];
  return batchNorm(x, { scale, bias, mean, variance }, 0);
}

function onesLike({ graph, dtype }: Value, shape: readonly number[]): Value {
  return graph.constant(dtype, shape, toTensorData(dtype, Array<number>(elementCount(shape)).fill(1)));
}

/** The parameters and statistics of `batchNorm`, each [channels]. */
export interface BatchNormStatistics {
  /** The factor after normalisation. */
  readonly scale: Value;
  /** What is added after that. */
  readonly bias: Value;
  /** The mean over the training data. */
  readonly mean: Value;
  /** The biased variance over the training data. */
  readonly variance: Value;
}

/**
 * Batch normalisation (Ioffe & Szegedy 2015) as a trained network applies it, with the statistics of its training: x [batch, channels,
 * ...], everything else [channels].
 */
export function batchNorm(x: Value, statistics: BatchNormStatistics, epsilon: number): Value {
  const { scale, bias, mean, variance } = statistics;
  return apply('BatchNormalization', [x, scale, bias, mean, variance], { epsilon: float(epsilon) });
}

defineOp({
  opType: 'BatchNormalization',
  infer: ({ x, attributes, outputCount, where }) => {
    if (intAttribute(attributes, 'training_mode', 0) !== 0 || outputCount !== 1)
      throw new GraphError(`${where}: only training_mode 0, with fixed statistics, is supported`);
    return x;
  },
  gradient: (context) => {
    const { x, dy, attributes } = context;
    const [scale, mean, variance] = [required(context, 1), required(context, 3), required(context, 4)];
    const axes = x.shape.map((_, axis) => axis).slice(2);
    const toPixels = (perChannel: Value) => reshape(perChannel, [-1, ...axes.map(() => 1)]);
    const epsilon = scalarLike(x, floatAttribute(attributes, 'epsilon', 1e-5));
    const inverse = reciprocal(sqrt(add(variance, epsilon)));
    const overPixels = (value: Value) => reduceSum(value, [0, ...axes]);
    const dyTotal = overPixels(dy);
    const normalised = mul(sub(x, toPixels(mean)), toPixels(inverse));
    const dScale = overPixels(mul(dy, normalised));
    const factor = mul(scale, inverse);
    const dVariance = mul(mul(dScale, scale), mul(square(inverse), scalarLike(x, -0.5)));
    return [mul(dy, toPixels(factor)), dScale, dyTotal, neg(mul(dyTotal, factor)), dVariance];
  },
});

defineOp({
  opType: 'InstanceNormalization',
  infer: ({ x }) => x,
  gradient: (context) => {
    const { x, dy, attributes } = context;
    const scale = required(context, 1);
    const axes = x.shape.map((_, axis) => axis).slice(2);
    const epsilon = floatAttribute(attributes, 'epsilon', 1e-5);
    const perChannel = reshape(scale, [-1, ...axes.map(() => 1)]);
    const { normalised, inverse } = normalise(x, axes, epsilon);
    const others = [0, ...axes];
    const sum = (value: Value) => cast(reduceSum(value, others), scale.dtype);
    return [
      normalisedGradient(mul(dy, perChannel), normalised, inverse, axes),
      sum(mul(widened(dy), normalised)),
      sum(widened(dy)),
    ];
  },
});

/** Over `axis` and all axes after it. */
defineOp({
  opType: 'LayerNormalization',
  infer: (context) => {
    const { dtype, shape } = context.x;
    const axis = axisAttribute(context, shape.length, -1);
    // ONNX's stash_type: those of float16 are computed and given in float32.
    const wide = dtype === 'float16' ? 'float32' : dtype;
    const statistics = { dtype: wide, shape: shape.map((dim, i) => (i < axis ? dim : 1)) } as const;
    return [{ dtype, shape }, statistics, statistics].slice(0, context.outputCount);
  },
  gradient: (context) => {
    const { x, attributes, where } = context;
    const [dy, ...statistics] = context.gradients;
    if (!dy || statistics.some(Boolean))
      throw new GraphError(`${where}: the gradient is known for the first output only`);
    const scale = required(context, 1);
    const bias = context.inputs[2];
    const axis = axisAttribute(context, x.shape.length, -1);
    const [before, axes] = [[...x.shape.keys()].slice(0, axis), [...x.shape.keys()].slice(axis)];
    const { normalised, inverse } = normalise(x, axes, floatAttribute(attributes, 'epsilon', 1e-5));
    const sumTo = (value: Value, { dtype, shape }: Value) =>
      cast(reshape(reduceSum(value, before), fixedShape(shape)), dtype);
    return [
      normalisedGradient(mul(dy, scale), normalised, inverse, axes),
      sumTo(mul(widened(dy), normalised), scale),
      bias ? sumTo(widened(dy), bias) : undefined,
    ];
  },
});

/**
 * Layer normalisation (Ba et al. 2016) over the last axis, biased variance as in torch: x [..., features], weight and bias
 * [features]; without a weight, the scale is 1.
 */
export function layerNorm(x: Value, weight: Value | undefined, bias: Value | undefined, epsilon: number): Value {
  const scale = weight ?? onesLike(x, fixedShape(x.shape.slice(-1)));
  return apply('LayerNormalization', bias ? [x, scale, bias] : [x, scale], {
    axis: int(-1),
    epsilon: float(epsilon),
  });
}

/** x with mean 0 and variance 1 over `axes`, and the factor that made it so; in float32 where x is float16. */
function normalise(x: Value, axes: readonly number[], epsilon: number): { normalised: Value; inverse: Value } {
  const wide = widened(x);
  const centred = sub(wide, reduceMean(wide, axes, { keepdims: true }));
  const variance = reduceMean(square(centred), axes, { keepdims: true });
  const inverse = reciprocal(sqrt(add(variance, scalarLike(wide, epsilon))));
  return { normalised: mul(centred, inverse), inverse };
}

/** In the type of dy. */
function normalisedGradient(dy: Value, normalised: Value, inverse: Value, axes: readonly number[]): Value {
  const mean = (value: Value) => reduceMean(value, axes, { keepdims: true });
  const wide = widened(dy);
  return cast(mul(sub(sub(wide, mean(wide)), mul(normalised, mean(mul(wide, normalised)))), inverse), dy.dtype);
}

defineOp({
  opType: 'Softmax',
  infer: ({ x }) => x,
  gradient: ({ y, dy, attributes }) => {
    const axis = intAttribute(attributes, 'axis', -1);
    const product = mul(dy, y);
    return sub(product, mul(y, reduceSum(product, [axis], { keepdims: true })));
  },
});
/** exp(x) over its sum along `axis`; computed in float32 where x is float16. */
export function softmax(x: Value, axis = -1): Value {
  return cast(apply('Softmax', [widened(x)], { axis: int(axis) }), x.dtype);
}
