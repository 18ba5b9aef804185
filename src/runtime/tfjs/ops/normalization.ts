import { axisAttribute, floatAttribute } from '../../../graph/registry.ts';
import type { Tfjs, TfTensor } from '../tf-module.ts';
import { contextOf, defineTfOp, defineTfOpOfOne, given, inputShape } from '../tf-op.ts';

/** tfjs's softmax runs along the last axis. */
defineTfOpOfOne('Softmax', (node) => {
  const rank = inputShape(node).length;
  const axis = axisAttribute(contextOf(node), rank, -1);
  const swapped = Array.from({ length: rank }, (_, i) => (i === axis ? rank - 1 : i === rank - 1 ? axis : i));
  return (tf, x) => (axis === rank - 1 ? tf.softmax(x) : tf.transpose(tf.softmax(tf.transpose(x, swapped)), swapped));
});

defineTfOp('InstanceNormalization', (node) => {
  const [, , ...pixels] = inputShape(node).keys();
  const epsilon = floatAttribute(node.attributes, 'epsilon', 1e-5);
  return (tf, inputs) => {
    const perChannel = (index: number) => tf.reshape(given(inputs, index), [-1, ...pixels.map(() => 1)]);
    const { normalised } = normalise(tf, given(inputs, 0), pixels, epsilon);
    return tf.add(tf.mul(normalised, perChannel(1)), perChannel(2));
  };
});

/** With kept statistics: scale, bias, mean and variance of each channel. */
defineTfOp('BatchNormalization', (node) => {
  const [, , ...pixels] = inputShape(node);
  const epsilon = floatAttribute(node.attributes, 'epsilon', 1e-5);
  return (tf, inputs) => {
    const perChannel = (index: number) => tf.reshape(given(inputs, index), [-1, ...pixels.map(() => 1)]);
    const factor = tf.div(perChannel(1), tf.sqrt(tf.add(perChannel(4), epsilon)));
    return tf.add(tf.mul(tf.sub(given(inputs, 0), perChannel(3)), factor), perChannel(2));
  };
});

/** The second and third outputs are the mean and the factor that made the variance 1. */
defineTfOp('LayerNormalization', (node) => {
  const shape = inputShape(node);
  const first = axisAttribute(contextOf(node), shape.length, -1);
  const axes = shape.map((_, axis) => axis).slice(first);
  const epsilon = floatAttribute(node.attributes, 'epsilon', 1e-5);
  return (tf, inputs) => {
    const { normalised, mean, inverse } = normalise(tf, given(inputs, 0), axes, epsilon);
    const scaled = tf.mul(normalised, given(inputs, 1));
    return [inputs[2] ? tf.add(scaled, inputs[2]) : scaled, mean, inverse];
  };
});

/** x with mean 0 and variance 1 over `axes`. */
function normalise(tf: Tfjs, x: TfTensor, axes: number[], epsilon: number) {
  const mean = tf.mean(x, axes, true);
  const centred = tf.sub(x, mean);
  const variance = tf.mean(tf.square(centred), axes, true);
  const inverse = tf.reciprocal(tf.sqrt(tf.add(variance, epsilon)));
  return { normalised: tf.mul(centred, inverse), mean, inverse };
}
