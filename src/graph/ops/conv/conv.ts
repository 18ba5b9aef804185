import { GraphError } from '../../../errors.ts';
import type { Value } from '../../graph.ts';
import { defineOp, type InferenceContext, intsAttribute, required } from '../../registry.ts';
import { type Dim, elementCount, fixedShape, formatShape, formatType } from '../../types.ts';
import { reduceSum } from '../reduce.ts';
import { conv2d, convGeometry } from './geometry.ts';
import { convInputGradient, convWeightGradient } from './gradients.ts';

export * from './geometry.ts';

/** x [batch, channels, height, width] and a weight of rank 4, of one dtype, and the spatial sizes. */
function imageAndWeight(context: InferenceContext): {
  x: Value;
  weight: number[];
  height: number;
  width: number;
} {
  const [x, weight] = [context.x, required(context, 1)];
  if (x.shape.length !== 4 || weight.shape.length !== 4 || x.dtype !== weight.dtype)
    throw new GraphError(
      `${context.where}: '${x.name}' ${formatType(x)} and the weight '${weight.name}' ${formatType(weight)} must be images and filters in 2-D of one dtype`,
    );
  const [height = 0, width = 0] = fixedShape(x.shape.slice(2));
  return { x, weight: fixedShape(weight.shape), height, width };
}

/** The length of an axis after a convolution. */
function convLength(length: number, kernel: number, stride: number, dilation: number, padding: number): number {
  return Math.floor((length + padding - dilation * (kernel - 1) - 1) / stride) + 1;
}

defineOp({
  opType: 'Conv',
  infer: (context) => {
    const { x, weight, height, width } = imageAndWeight(context);
    const [filters = 0, channels = 0, kernelHeight = 1, kernelWidth = 1] = weight;
    const { strides, pads, dilations, group } = convGeometry(context.attributes, context.where);
    if (x.shape[1] !== channels * group || filters % group !== 0)
      throw new GraphError(
        `${context.where}: '${x.name}' ${formatShape(x.shape)} does not fit the weight ${formatShape(weight)} in ${group} group(s)`,
      );
    const shape: Dim[] = [
      x.shape[0] ?? 1,
      filters,
      convLength(height, kernelHeight, strides[0], dilations[0], pads[0] + pads[2]),
      convLength(width, kernelWidth, strides[1], dilations[1], pads[1] + pads[3]),
    ];
    if (elementCount(shape.slice(2)) <= 0)
      throw new GraphError(
        `${context.where}: the filters ${formatShape(weight)} are larger than ${formatShape(x.shape)}`,
      );
    return { dtype: x.dtype, shape };
  },
  gradient: (context) => {
    const [x, weight, dy] = [context.x, required(context, 1), context.dy];
    const geometry = convGeometry(context.attributes, context.where);
    return [
      () => convInputGradient(dy, weight, x.shape, geometry),
      () => convWeightGradient(dy, x, weight.shape, geometry),
      () => reduceSum(dy, [0, 2, 3]),
    ];
  },
});

defineOp({
  opType: 'ConvTranspose',
  infer: (context) => {
    const { x, weight, height, width } = imageAndWeight(context);
    const [channels = 0, filters = 0, kernelHeight = 1, kernelWidth = 1] = weight;
    const { strides, pads, dilations, group } = convGeometry(context.attributes, context.where);
    if (x.shape[1] !== channels || intsAttribute(context.attributes, 'output_shape'))
      throw new GraphError(
        `${context.where}: '${x.name}' ${formatShape(x.shape)} does not fit the weight ${formatShape(weight)}, or the attribute output_shape is used, which is not supported`,
      );
    const [extraHeight = 0, extraWidth = 0] = intsAttribute(context.attributes, 'output_padding') ?? [];
    const length = (input: number, kernel: number, axis: 0 | 1, extra: number) =>
      strides[axis] * (input - 1) + extra + dilations[axis] * (kernel - 1) + 1 - pads[axis] - (pads[axis + 2] ?? 0);
    return {
      dtype: x.dtype,
      shape: [
        x.shape[0] ?? 1,
        filters * group,
        length(height, kernelHeight, 0, extraHeight),
        length(width, kernelWidth, 1, extraWidth),
      ],
    };
  },
  /** ConvTranspose is the adjoint of Conv, so its own adjoint is Conv, and x and dy change places for the weight. */
  gradient: (context) => {
    const [x, weight, dy] = [context.x, required(context, 1), context.dy];
    const geometry = convGeometry(context.attributes, context.where);
    return [
      () => conv2d(dy, weight, undefined, geometry),
      () => convWeightGradient(x, dy, weight.shape, geometry),
      () => reduceSum(dy, [0, 2, 3]),
    ];
  },
});
