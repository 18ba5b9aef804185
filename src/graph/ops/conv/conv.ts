import { GraphError } from '../../../errors.ts';
import type { Attribute, Attributes, Value } from '../../graph.ts';
import {
  apply,
  defineOp,
  type GradientContext,
  type InferenceContext,
  intAttribute,
  intsAttribute,
  required,
} from '../../registry.ts';
import { type Dim, elementCount, fixedShape, formatShape } from '../../types.ts';
import { reduceSum } from '../reduce.ts';
import { isMiscomputedOnWebgpu, withChannelsInFours } from './channels.ts';
import { convInputGradient, convWeightGradient } from './gradients.ts';

/** Height and width, or the like. */
export type Pair = readonly [number, number];

export interface Conv2dOptions {
  /** Default [1, 1]. */
  readonly strides?: Pair;
  /** Zeros around the input: top, left, bottom, right; default none. */
  readonly pads?: readonly [number, number, number, number];
  /** Default [1, 1]. */
  readonly dilations?: Pair;
  /** Channels are cut into so many groups, each with its own filters; default 1. */
  readonly group?: number;
}

export type ConvGeometry = Required<Conv2dOptions>;

/** The geometry a node's attributes describe, with ONNX's defaults. @throws {GraphError} for what is not 2-D. */
export function convGeometry(attributes: Attributes, where: string): ConvGeometry {
  const autoPad = attributes.auto_pad;
  if (autoPad?.kind === 'string' && autoPad.value !== 'NOTSET')
    throw new GraphError(`${where}: auto_pad '${autoPad.value}' is not supported: write the pads as numbers`);
  const ints = (name: string, count: number, fallback: number) => {
    const values = intsAttribute(attributes, name) ?? Array<number>(count).fill(fallback);
    if (values.length === count) return values;
    throw new GraphError(`${where}: ${name} ${formatShape(values)} is not of a convolution in 2-D`);
  };
  const [top = 0, left = 0, bottom = 0, right = 0] = ints('pads', 4, 0);
  const pair = (name: string): Pair => {
    const [a = 1, b = 1] = ints(name, 2, 1);
    return [a, b];
  };
  return {
    strides: pair('strides'),
    pads: [top, left, bottom, right],
    dilations: pair('dilations'),
    group: intAttribute(attributes, 'group', 1),
  };
}

function geometryAttributes({ strides, pads, dilations, group }: ConvGeometry): Record<string, Attribute> {
  return {
    strides: { kind: 'ints', value: strides },
    pads: { kind: 'ints', value: pads },
    dilations: { kind: 'ints', value: dilations },
    group: { kind: 'int', value: group },
  };
}

function withDefaults(options: Conv2dOptions): ConvGeometry {
  return { strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1, ...options };
}

/** x [batch, channels, height, width] and a weight of rank 4, of one dtype, and the spatial sizes. */
function imageAndWeight(context: InferenceContext): {
  x: Value;
  weight: number[];
  height: number;
  width: number;
} {
  const x = required(context, 0);
  const weight = required(context, 1);
  if (x.shape.length !== 4 || weight.shape.length !== 4 || x.dtype !== weight.dtype)
    throw new GraphError(
      `${context.where}: '${x.name}' ${x.dtype} ${formatShape(x.shape)} and the weight '${weight.name}' ${weight.dtype} ${formatShape(weight.shape)} must be images and filters in 2-D of one dtype`,
    );
  const [height = 0, width = 0] = fixedShape(x.shape.slice(2));
  return { x, weight: fixedShape(weight.shape), height, width };
}

/** The length of an axis after a convolution. */
function convLength(
  length: number,
  kernel: number,
  stride: number,
  dilation: number,
  padding: number,
): number {
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
    return [{ dtype: x.dtype, shape }];
  },
  gradient: (context) => {
    const x = required(context, 0);
    const weight = required(context, 1);
    const dy = context.gradients[0];
    if (!dy) return [];
    const geometry = convGeometry(context.node.attributes, `node '${context.node.name}'`);
    return [
      context.needed[0] ? convInputGradient(dy, weight, x.shape, geometry) : undefined,
      context.needed[1] ? convWeightGradient(dy, x, weight.shape, geometry) : undefined,
      context.needed[2] ? reduceSum(dy, [0, 2, 3]) : undefined,
    ];
  },
});

/**
 * Convolution as in torch: x [batch, in, height, width], weight [out, in / group, kernel height, kernel width], bias
 * [out]; gives [batch, out, ...].
 */
export function conv2d(x: Value, weight: Value, bias?: Value, options: Conv2dOptions = {}): Value {
  const [, , kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  return convolution(x, weight, bias, {
    kernel_shape: { kind: 'ints', value: [kernelHeight, kernelWidth] },
    ...geometryAttributes(withDefaults(options)),
  });
}

/** The node of a convolution in 2-D, with more channels where webgpu needs them: a file is right wherever it is run. */
export function convolution(x: Value, weight: Value, bias: Value | undefined, attributes: Attributes): Value {
  const facts = { weight: fixedShape(weight.shape), ...convGeometry(attributes, 'Conv') };
  const [images, filters] = isMiscomputedOnWebgpu(facts) ? withChannelsInFours(x, weight) : [x, weight];
  return apply('Conv', bias ? [images, filters, bias] : [images, filters], attributes);
}

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
      strides[axis] * (input - 1) +
      extra +
      dilations[axis] * (kernel - 1) +
      1 -
      pads[axis] -
      (pads[axis + 2] ?? 0);
    return [
      {
        dtype: x.dtype,
        shape: [
          x.shape[0] ?? 1,
          filters * group,
          length(height, kernelHeight, 0, extraHeight),
          length(width, kernelWidth, 1, extraWidth),
        ],
      },
    ];
  },
  gradient: convTransposeGradient,
});

/** ConvTranspose is the adjoint of Conv, so its own adjoint is Conv, and x and dy change places for the weight. */
function convTransposeGradient(context: GradientContext): (Value | undefined)[] {
  const x = required(context, 0);
  const weight = required(context, 1);
  const dy = context.gradients[0];
  if (!dy) return [];
  const geometry = convGeometry(context.node.attributes, `node '${context.node.name}'`);
  return [
    context.needed[0] ? conv2d(dy, weight, undefined, geometry) : undefined,
    context.needed[1] ? convWeightGradient(x, dy, weight.shape, geometry) : undefined,
    context.needed[2] ? reduceSum(dy, [0, 2, 3]) : undefined,
  ];
}

export interface ConvTranspose2dOptions extends Conv2dOptions {
  /** Rows and columns added at the bottom and right; default none. */
  readonly outputPadding?: Pair;
}

/** The adjoint of `conv2d`: x [batch, in, ...], weight [in, out / group, kernel height, kernel width]. */
export function convTranspose2d(
  x: Value,
  weight: Value,
  bias?: Value,
  { outputPadding = [0, 0], ...options }: ConvTranspose2dOptions = {},
): Value {
  const [, , kernelHeight = 1, kernelWidth = 1] = fixedShape(weight.shape);
  return apply('ConvTranspose', bias ? [x, weight, bias] : [x, weight], {
    kernel_shape: { kind: 'ints', value: [kernelHeight, kernelWidth] },
    output_padding: { kind: 'ints', value: outputPadding },
    ...geometryAttributes(withDefaults(options)),
  });
}
