import { GraphError } from '../../errors.ts';
import type { Value } from '../graph.ts';
import { apply, defineOp, floatAttribute, intAttribute, required, scalarLike } from '../registry.ts';
import { fixedShape, normalizeAxis } from '../types.ts';
import { add, mul, neg, reciprocal, sqrt, square, sub } from './elementwise.ts';
import { reduceMean, reduceSum } from './reduce.ts';
import { reshape } from './reshape.ts';

export interface BatchNormStatistics {
  readonly scale: Value;
  readonly bias: Value;
  readonly mean: Value;
  readonly variance: Value;
}

/**
 * Batch normalisation (Ioffe & Szegedy 2015) as a trained network applies it, by kept statistics: x [batch, channels,
 * ...], all else [channels].
 */
export function batchNorm(x: Value, statistics: BatchNormStatistics, epsilon: number): Value {
  const { scale, bias, mean, variance } = statistics;
  return apply('BatchNormalization', [x, scale, bias, mean, variance], {
    epsilon: { kind: 'float', value: epsilon },
  });
}

defineOp({
  opType: 'BatchNormalization',
  infer: (context) => {
    const { dtype, shape } = required(context, 0);
    if (intAttribute(context.attributes, 'training_mode', 0) !== 0 || context.outputCount !== 1)
      throw new GraphError(`${context.where}: only training_mode 0, by kept statistics, is supported`);
    return [{ dtype, shape }];
  },
  gradient: ({ node, inputs, gradients }) => {
    const [x, scale, , mean, variance] = inputs;
    const [dy] = gradients;
    if (!x || !scale || !mean || !variance || !dy) return [];
    const axes = x.shape.map((_, axis) => axis).slice(2);
    const toPixels = (perChannel: Value) => reshape(perChannel, [-1, ...axes.map(() => 1)]);
    const epsilon = scalarLike(x, floatAttribute(node.attributes, 'epsilon', 1e-5));
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
  infer: (context) => {
    const { dtype, shape } = required(context, 0);
    return [{ dtype, shape }];
  },
  gradient: ({ node, inputs, gradients }) => {
    const [x, scale] = inputs;
    const dy = gradients[0];
    if (!x || !scale || !dy) return [];
    const axes = x.shape.map((_, axis) => axis).slice(2);
    const epsilon = floatAttribute(node.attributes, 'epsilon', 1e-5);
    const perChannel = reshape(scale, [-1, ...axes.map(() => 1)]);
    const { normalised, inverse } = normalise(x, axes, epsilon);
    const product = mul(dy, normalised);
    const others = [0, ...axes];
    return [
      normalisedGradient(mul(dy, perChannel), normalised, inverse, axes),
      reduceSum(product, others),
      reduceSum(dy, others),
    ];
  },
});

defineOp({
  opType: 'LayerNormalization',
  infer: (context) => {
    const { dtype, shape } = required(context, 0);
    const axis = normalizeAxis(intAttribute(context.attributes, 'axis', -1), shape.length, context.where);
    const statistics = { dtype, shape: shape.map((dim, i) => (i < axis ? dim : 1)) };
    return [{ dtype, shape }, statistics, statistics].slice(0, context.outputCount);
  },
  gradient: ({ node, inputs, gradients }) => {
    const [x, scale, bias] = inputs;
    const [dy, ...statistics] = gradients;
    if (!x || !scale || !dy || statistics.some(Boolean))
      throw new GraphError(`node '${node.name}': the gradient is known for the first output only`);
    const axis = normalizeAxis(
      intAttribute(node.attributes, 'axis', -1),
      x.shape.length,
      `node '${node.name}'`,
    );
    const axes = x.shape.map((_, i) => i).slice(axis);
    const before = x.shape.map((_, i) => i).slice(0, axis);
    const { normalised, inverse } = normalise(x, axes, floatAttribute(node.attributes, 'epsilon', 1e-5));
    return [
      normalisedGradient(mul(dy, scale), normalised, inverse, axes),
      reshape(reduceSum(mul(dy, normalised), before), fixedShape(scale.shape)),
      bias ? reshape(reduceSum(dy, before), fixedShape(bias.shape)) : undefined,
    ];
  },
});

/** x with mean 0 and variance 1 over `axes`, and the factor that made it so. */
function normalise(
  x: Value,
  axes: readonly number[],
  epsilon: number,
): { normalised: Value; inverse: Value } {
  const centred = sub(x, reduceMean(x, axes, { keepdims: true }));
  const variance = reduceMean(square(centred), axes, { keepdims: true });
  const inverse = reciprocal(sqrt(add(variance, scalarLike(x, epsilon))));
  return { normalised: mul(centred, inverse), inverse };
}

function normalisedGradient(dy: Value, normalised: Value, inverse: Value, axes: readonly number[]): Value {
  const mean = (value: Value) => reduceMean(value, axes, { keepdims: true });
  return mul(sub(sub(dy, mean(dy)), mul(normalised, mean(mul(dy, normalised)))), inverse);
}

defineOp({
  opType: 'Softmax',
  infer: (context) => {
    const { dtype, shape } = required(context, 0);
    return [{ dtype, shape }];
  },
  gradient: ({ node, outputs, gradients }) => {
    const [y] = outputs;
    const [dy] = gradients;
    if (!y || !dy) return [];
    const axis = intAttribute(node.attributes, 'axis', -1);
    const product = mul(dy, y);
    return [sub(product, mul(y, reduceSum(product, [axis], { keepdims: true })))];
  },
});
/** exp(x) over its sum along `axis`. */
export function softmax(x: Value, axis = -1): Value {
  return apply('Softmax', [x], { axis: { kind: 'int', value: axis } });
}
