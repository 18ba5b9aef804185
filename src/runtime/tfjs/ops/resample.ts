import { enlargement, poolWindow } from '../../../graph/ops/index.ts';
import { expand } from '../broadcast.ts';
import { contextOf, defineTfOp, given, inputShape, outputShape } from '../tf-op.ts';

/** Pixels are repeated by broadcasting, which spares the transposes that tfjs's resizing would need. */
defineTfOp(
  'Resize',
  (node) => {
    const [down, across] = enlargement(contextOf(node));
    const [batch = 1, channels = 1, height = 1, width = 1] = inputShape(node);
    const rows = batch * channels * height;
    const shape = outputShape(node);
    return (tf, inputs) => {
      const pixels = tf.reshape(given(inputs, 0), [rows, 1, width, 1]);
      return tf.reshape(expand(tf, pixels, [rows, down, width, across]), shape);
    };
  },
  { tensorInputs: 1 },
);

/** Means over windows side by side; what is left over below and to the right is cut off. */
defineTfOp('AveragePool', (node) => {
  const [down, across] = poolWindow(contextOf(node));
  const shape = outputShape(node);
  const [batch = 1, channels = 1, height = 1, width = 1] = shape;
  return (tf, inputs) => {
    const whole = tf.slice(given(inputs, 0), [0, 0, 0, 0], [batch, channels, height * down, width * across]);
    const windows = tf.reshape(whole, [batch * channels * height, down, width, across]);
    return tf.reshape(tf.mean(windows, [1, 3]), shape);
  };
});
