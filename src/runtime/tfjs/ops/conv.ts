import { GraphError } from '../../../errors.ts';
import type { GraphNode } from '../../../graph/graph.ts';
import { type ConvGeometry, convGeometry } from '../../../graph/ops/conv/geometry.ts';
import { intsAttribute } from '../../../graph/registry.ts';
import type { TfTensor } from '../tf-module.ts';
import { defineTfOp, given, inputShape, padOrCropImages, toNchw, toNhwc } from '../tf-op.ts';

/** The geometry, where tfjs can differentiate it. */
function differentiableGeometry(node: GraphNode): ConvGeometry {
  const geometry = convGeometry(node.attributes, `node '${node.name}'`);
  if (geometry.dilations.some((step) => step !== 1))
    throw new GraphError(
      `node '${node.name}': tfjs has no gradient for the dilations [${geometry.dilations.join(', ')}]`,
    );
  return geometry;
}

/**
 * Padded beforehand except where 'same' means these pads: the gradient kernels of tfjs-node know 'valid' and 'same'
 * only (its kernels/Conv2DBackpropInput.ts and Conv2DBackpropFilter.ts).
 */
defineTfOp('Conv', (node) => {
  const { strides, pads, group } = differentiableGeometry(node);
  const [filters = 1, channels = 1, kernelHeight = 1, kernelWidth = 1] = inputShape(node, 1);
  const same =
    strides.every((stride) => stride === 1) &&
    [pads[0], pads[2]].every((count) => 2 * count === kernelHeight - 1) &&
    [pads[1], pads[3]].every((count) => 2 * count === kernelWidth - 1);
  return (tf, inputs) => {
    const images = toNhwc(tf, given(inputs, 0));
    const padded = same ? images : padOrCropImages(tf, images, pads);
    const weight = tf.transpose(given(inputs, 1), [2, 3, 1, 0]);
    const convolve = (x: TfTensor, filter: TfTensor) =>
      tf.conv2d(x, filter, [strides[0], strides[1]], same ? 'same' : 'valid');
    const piecesOf = (x: TfTensor, size: number) => tf.split(x, Array<number>(group).fill(size), 3);
    const inGroups = () => {
      const filtersOf = piecesOf(weight, filters / group);
      return tf.concat(
        piecesOf(padded, channels).map((part, i) => convolve(part, given(filtersOf, i))),
        3,
      );
    };
    const result = group === 1 ? convolve(padded, weight) : inGroups();
    return toNchw(tf, inputs[2] ? tf.add(result, inputs[2]) : result);
  };
});

/** The adjoint of an unpadded convolution; the pads are cut off its result. */
defineTfOp('ConvTranspose', (node) => {
  const { strides, pads, group } = differentiableGeometry(node);
  if (group !== 1) throw new GraphError(`node '${node.name}': tfjs has no ConvTranspose in ${group} groups`);
  const [batch = 1, , height = 1, width = 1] = inputShape(node, 0);
  const [, filters = 1, kernelHeight = 1, kernelWidth = 1] = inputShape(node, 1);
  const [extraHeight = 0, extraWidth = 0] = intsAttribute(node.attributes, 'output_padding') ?? [];
  const whole: [number, number, number, number] = [
    batch,
    strides[0] * (height - 1) + kernelHeight,
    strides[1] * (width - 1) + kernelWidth,
    filters,
  ];
  return (tf, inputs) => {
    const weight = tf.transpose(given(inputs, 1), [2, 3, 1, 0]);
    const images = toNhwc(tf, given(inputs, 0));
    const full = tf.conv2dTranspose(images, weight, whole, [strides[0], strides[1]], 'valid');
    const cut = padOrCropImages(tf, full, [-pads[0], -pads[1], extraHeight - pads[2], extraWidth - pads[3]]);
    return toNchw(tf, inputs[2] ? tf.add(cut, inputs[2]) : cut);
  };
});
