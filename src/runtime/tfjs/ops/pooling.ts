import type { GraphNode } from '../../../graph/graph.ts';
import { enlargement, poolGeometry } from '../../../graph/ops/pooling.ts';
import { intAttribute } from '../../../graph/registry.ts';
import type { Tfjs, TfTensor } from '../tf-module.ts';
import {
  contextOf,
  defineTfOpOfOne,
  expand,
  inputShape,
  outputShape,
  padOrCropImages,
  toNchw,
  toNhwc,
} from '../tf-op.ts';

/** Pixels are repeated by broadcasting, which spares the transposes that tfjs's resizing would need. */
defineTfOpOfOne('Resize', (node) => {
  const [down, across] = enlargement(contextOf(node));
  const [batch = 1, channels = 1, height = 1, width = 1] = inputShape(node);
  const rows = batch * channels * height;
  const shape = outputShape(node);
  return (tf, x) => {
    const pixels = tf.reshape(x, [rows, 1, width, 1]);
    return tf.reshape(expand(tf, pixels, [rows, down, width, across]), shape);
  };
});

type Pool = (tf: Tfjs, images: TfTensor) => TfTensor;

/**
 * Windows without padding over images with the channels last, padded beforehand: the gradient kernels of tfjs-node know
 * nothing else.
 */
function definePool(opType: string, fill: number, prepare: (node: GraphNode, pool: Pool) => Pool): void {
  const kernel = opType === 'MaxPool' ? 'maxPool' : 'avgPool';
  defineTfOpOfOne(opType, (node) => {
    const { window, strides, pads } = poolGeometry(contextOf(node));
    const pool = prepare(node, (tf, images) => {
      const padded = padOrCropImages(tf, images, pads, fill);
      return tf[kernel](padded, [...window], [...strides], 'valid');
    });
    return (tf, x) => toNchw(tf, pool(tf, toNhwc(tf, x)));
  });
}

definePool('MaxPool', Number.NEGATIVE_INFINITY, (_node, pool) => pool);

/** Padding counts as zeros or, by ONNX's default, not at all: then the mean of ones says how much of a window counted. */
definePool('AveragePool', 0, (node, pool) => {
  const [, , height = 1, width = 1] = inputShape(node);
  const { pads } = poolGeometry(contextOf(node));
  const countsPads = intAttribute(node.attributes, 'count_include_pad', 0) === 1;
  if (countsPads || pads.every((count) => count === 0)) return pool;
  const ones = new Float32Array(height * width).fill(1);
  return (tf, images) => tf.div(pool(tf, images), pool(tf, tf.tensor(ones, [1, height, width, 1], 'float32')));
});

defineTfOpOfOne('GlobalAveragePool', () => (tf, x) => tf.mean(x, [2, 3], true));
