import { GraphError } from '../../../errors.ts';
import type { Attributes, Value } from '../../graph.ts';
import { apply, int, intAttribute, ints, intsAttribute, textAttribute } from '../../registry.ts';
import { fixedShape, formatShape } from '../../types.ts';
import { pad } from '../indexing.ts';

/** Two numbers, for height and width. */
export type Pair = readonly [number, number];

/** Options of `conv2d`. */
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
  const autoPad = textAttribute(attributes, 'auto_pad', 'NOTSET');
  if (autoPad !== 'NOTSET')
    throw new GraphError(`${where}: auto_pad '${autoPad}' is not supported: write the pads as numbers`);
  const numbers = (name: string, count: number, fallback: number) => {
    const values = intsAttribute(attributes, name) ?? Array<number>(count).fill(fallback);
    if (values.length === count) return values;
    throw new GraphError(`${where}: ${name} ${formatShape(values)} is not of a convolution in 2-D`);
  };
  const [top = 0, left = 0, bottom = 0, right = 0] = numbers('pads', 4, 0);
  const pair = (name: string): Pair => {
    const [a = 1, b = 1] = numbers(name, 2, 1);
    return [a, b];
  };
  return {
    strides: pair('strides'),
    pads: [top, left, bottom, right],
    dilations: pair('dilations'),
    group: intAttribute(attributes, 'group', 1),
  };
}

/** Whether every pad is smaller than the filter, as a convolution by `turnedGeometry` needs it. */
export function padsFit({ pads }: ConvGeometry, [height, width]: Pair): boolean {
  return Math.max(pads[0], pads[2]) < height && Math.max(pads[1], pads[3]) < width;
}

/** For stride 1: how a filter rotated by 180 degrees meets every pixel of dy that its output reached. */
export function turnedGeometry([height, width]: Pair, { pads, dilations }: ConvGeometry): ConvGeometry {
  const [down, across] = [dilations[0] * (height - 1), dilations[1] * (width - 1)];
  const turnedPads = [down - pads[0], across - pads[1], down - pads[2], across - pads[3]] as const;
  return { strides: [1, 1], pads: turnedPads, dilations, group: 1 };
}

/** Without strides, dilations and groups. */
export function isPlain({ strides, dilations, group }: ConvGeometry): boolean {
  return group === 1 && [...strides, ...dilations].every((step) => step === 1);
}

/** The attributes of a convolution with these filters. */
function attributesOf(weight: Value, options: Conv2dOptions) {
  const { strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], group = 1 } = options;
  return {
    kernel_shape: ints(fixedShape(weight.shape.slice(2))),
    strides: ints(strides),
    pads: ints(pads),
    dilations: ints(dilations),
    group: int(group),
  };
}

/**
 * Convolution as in torch: x [batch, in, height, width], weight [out, in / group, kernel height, kernel width], bias
 * [out]; gives [batch, out, ...]. Uneven pads become a node of their own, as in torch: onnxruntime's ConvTranspose, the
 * gradient, has no uneven pads on cuda, and not every cuDNN runs a Conv with them.
 */
export function conv2d(x: Value, weight: Value, bias?: Value, options: Conv2dOptions = {}): Value {
  const [top, left, bottom, right] = options.pads ?? [0, 0, 0, 0];
  if (top !== bottom || left !== right) {
    const padded = pad(x, [0, 0, top, left, 0, 0, bottom, right]);
    return conv2d(padded, weight, bias, { ...options, pads: [0, 0, 0, 0] });
  }
  return convolution(x, weight, bias, attributesOf(weight, options));
}

/** The node of a convolution in 2-D, with more channels where webgpu needs them: a file is right wherever it is run. */
export function convolution(x: Value, weight: Value, bias: Value | undefined, attributes: Attributes): Value {
  const facts = { weight: fixedShape(weight.shape), ...convGeometry(attributes, 'Conv') };
  const [images, filters] = isMiscomputedOnWebgpu(facts) ? withChannelsInFours(x, weight) : [x, weight];
  return apply('Conv', bias ? [images, filters, bias] : [images, filters], attributes);
}

/** Options of `convTranspose2d`. */
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
  const { kernel_shape, ...geometry } = attributesOf(weight, options);
  return apply('ConvTranspose', bias ? [x, weight, bias] : [x, weight], {
    kernel_shape,
    output_padding: ints(outputPadding),
    ...geometry,
  });
}

/** What decides which kernel a convolution gets. */
interface ConvKernelFacts {
  /** [out, in / group, ...kernel]. */
  readonly weight: readonly number[];
  readonly strides: readonly number[];
  readonly pads: readonly number[];
  readonly group: number;
}

/**
 * Whether the webgpu of onnxruntime 1.30 computes this convolution wrongly, as SwiftShader shows and its source
 * (conv2d_mm.cc) says of every GPU; probably https://github.com/microsoft/onnxruntime/issues/29651. It reads three channels
 * at a time where their number is a multiple of 3 and not of 4, and divides their index by 4: right for 3 channels only.
 * Where the outputs are no multiple of 4, it reads one at a time. Groups, plain products of pixels, three axes and
 * ConvTranspose have kernels of their own, which are right.
 */
export function isMiscomputedOnWebgpu({ weight, strides, pads, group }: ConvKernelFacts): boolean {
  const [outputs = 0, channels = 0, ...kernel] = weight;
  const isProduct = [...kernel, ...strides].every((one) => one === 1) && pads.every((count) => count === 0);
  if (group > 1 || isProduct || kernel.length > 2) return false;
  return outputs % 4 === 0 && channels > 3 && channels % 3 === 0 && channels % 4 !== 0;
}

/** Images [batch, in, ...] and filters [out, in, ...] with channels of zeros, so that `in` is a multiple of 4. */
function withChannelsInFours(x: Value, weight: Value): [Value, Value] {
  const [, channels = 0, ...kernel] = fixedShape(weight.shape);
  const none = [0, 0, ...kernel.map(() => 0)];
  const pads = [...none, ...none.with(1, (4 - (channels % 4)) % 4)];
  return [pad(x, pads), pad(weight, pads)];
}
