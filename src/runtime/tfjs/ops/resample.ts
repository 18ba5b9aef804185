import { GraphError } from '../../../errors.ts';
import { enlargement, poolGeometry } from '../../../graph/ops/index.ts';
import { expand } from '../broadcast.ts';
import type { Tfjs, TfTensor } from '../tf-module.ts';
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

/** Windows side by side; what is left over below and to the right is cut off. */
function defineTiledPool(opType: string, combine: (tf: Tfjs, windows: TfTensor) => TfTensor): void {
  defineTfOp(opType, (node) => {
    const context = contextOf(node);
    const { window, strides, pads } = poolGeometry(context);
    const [down, across] = window;
    if (strides[0] !== down || strides[1] !== across || pads.some((count) => count > 0))
      throw new GraphError(
        `${context.where}: on tfjs only windows side by side, without padding, are supported`,
      );
    const shape = outputShape(node);
    const [batch = 1, channels = 1, height = 1, width = 1] = shape;
    return (tf, inputs) => {
      const used = [batch, channels, height * down, width * across];
      const whole = tf.slice(given(inputs, 0), [0, 0, 0, 0], used);
      const windows = tf.reshape(whole, [batch * channels * height, down, width, across]);
      return tf.reshape(combine(tf, windows), shape);
    };
  });
}

defineTiledPool('AveragePool', (tf, windows) => tf.mean(windows, [1, 3]));
defineTiledPool('MaxPool', (tf, windows) => tf.max(windows, [1, 3]));

defineTfOp('GlobalAveragePool', () => (tf, inputs) => tf.mean(given(inputs, 0), [2, 3], true));
