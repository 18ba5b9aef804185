import { GraphError } from '../../../errors.ts';
import type { Attributes, Value } from '../../graph.ts';
import { convolution } from '../../ops/conv/geometry.ts';
import { matmul } from '../../ops/matmul.ts';
import { groupNorm, softmax } from '../../ops/normalization.ts';
import { reshape, squeeze, unsqueeze } from '../../ops/shape.ts';
import {
  apply,
  applyOp,
  axisAttribute,
  floatAttribute,
  int,
  intAttribute,
  ints,
  intsAttribute,
  text,
  textAttribute,
} from '../../registry.ts';
import { elementCount, fixedShape, formatShape } from '../../types.ts';
import { einsum } from './einsum.ts';
import { type LoweringRule, type NodeContext, type Operand, optionalValueAt, tensorOf, valueAt } from './operand.ts';
import { resize } from './resize.ts';

/** Strides, dilations and explicit pads of a convolution, `before` and `after` for each spatial axis. */
interface Geometry {
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly before: number[];
  readonly after: number[];
}

function geometryOf(
  context: NodeContext,
  kernel: readonly number[],
  automatic: (axis: number, stride: number, reach: number) => number,
): Geometry {
  const list = (name: string, fallback: number) => {
    const given = intsAttribute(context.attributes, name) ?? kernel.map(() => fallback);
    if (given.length === kernel.length) return given;
    throw new GraphError(
      `${context.where}: ${name} ${formatShape(given)} does not fit a filter ${formatShape(kernel)}`,
    );
  };
  const strides = list('strides', 1);
  const dilations = list('dilations', 1);
  const mode = textAttribute(context.attributes, 'auto_pad', 'NOTSET');
  if (mode === 'NOTSET') {
    const pads = intsAttribute(context.attributes, 'pads') ?? [];
    return {
      strides,
      dilations,
      before: kernel.map((_, axis) => pads[axis] ?? 0),
      after: kernel.map((_, axis) => pads[axis + kernel.length] ?? 0),
    };
  }
  if (mode !== 'SAME_UPPER' && mode !== 'SAME_LOWER' && mode !== 'VALID')
    throw new GraphError(`${context.where}: auto_pad '${mode}' is not known`);
  const totals = kernel.map((length, axis) =>
    mode === 'VALID' ? 0 : Math.max(0, automatic(axis, strides[axis] ?? 1, (dilations[axis] ?? 1) * (length - 1) + 1)),
  );
  const half = totals.map((total) => (mode === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2)));
  return { strides, dilations, before: half, after: totals.map((total, axis) => total - (half[axis] ?? 0)) };
}

function attributesOf({ attributes }: NodeContext, geometry: Geometry, kernel: readonly number[]): Attributes {
  return {
    kernel_shape: ints(kernel),
    strides: ints(geometry.strides),
    dilations: ints(geometry.dilations),
    pads: ints([...geometry.before, ...geometry.after]),
    group: int(intAttribute(attributes, 'group', 1)),
  };
}

const spatialOf = (x: Value) => fixedShape(x.shape.slice(2));

/** A convolution over one axis is one over two, the first of length 1. */
function overTwoAxes(
  context: NodeContext,
  opType: 'Conv' | 'ConvTranspose',
  attributes: (x: Value, kernel: readonly number[]) => Attributes,
): Operand[] {
  const x = valueAt(context, 0);
  const weight = valueAt(context, 1);
  const bias = optionalValueAt(context, 2);
  const kernel = fixedShape(weight.shape.slice(2));
  if (x.shape.length !== weight.shape.length || (kernel.length !== 1 && kernel.length !== 2))
    throw new GraphError(
      `${context.where}: only convolutions over one or two axes are supported, not of ${formatShape(x.shape)} by ${formatShape(weight.shape)}`,
    );
  const node = (images: Value, filters: Value, attributes: Attributes) =>
    opType === 'Conv'
      ? convolution(images, filters, bias, attributes)
      : apply(opType, bias ? [images, filters, bias] : [images, filters], attributes);
  if (kernel.length === 2) return [node(x, weight, attributes(x, kernel))];
  const line = node(unsqueeze(x, [2]), unsqueeze(weight, [2]), inTwoAxes(attributes(x, kernel)));
  return [squeeze(line, [2])];
}

function inTwoAxes(attributes: Attributes): Attributes {
  const widened = (name: string, neutral: number, value: readonly number[]) =>
    name === 'pads' ? [0, value[0] ?? 0, 0, value[1] ?? 0] : [neutral, ...value];
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attribute]) => {
      if (attribute.kind !== 'ints') return [name, attribute];
      return [name, ints(widened(name, name === 'output_padding' ? 0 : 1, attribute.value))];
    }),
  );
}

export const layerRules: Readonly<Record<string, LoweringRule>> = {
  Conv: (context) =>
    overTwoAxes(context, 'Conv', (x, kernel) => {
      const lengths = textAttribute(context.attributes, 'auto_pad', 'NOTSET').startsWith('SAME') ? spatialOf(x) : [];
      const geometry = geometryOf(context, kernel, (axis, stride, reach) => {
        const length = lengths[axis] ?? 0;
        return (Math.ceil(length / stride) - 1) * stride + reach - length;
      });
      return attributesOf(context, geometry, kernel);
    }),

  ConvTranspose: (context) =>
    overTwoAxes(context, 'ConvTranspose', (x, kernel) => {
      const extra = intsAttribute(context.attributes, 'output_padding') ?? kernel.map(() => 0);
      const wanted = intsAttribute(context.attributes, 'output_shape')?.slice(-kernel.length);
      const lengths = spatialOf(x);
      // SAME asks for an output of stride times the input, and `output_shape` for the one it names.
      const total = (axis: number, stride: number, reach: number) =>
        stride * ((lengths[axis] ?? 0) - 1) +
        (extra[axis] ?? 0) +
        reach -
        (wanted?.[axis] ?? stride * (lengths[axis] ?? 0));
      const padsFollow = wanted && textAttribute(context.attributes, 'auto_pad', 'NOTSET') === 'NOTSET';
      const attributes = padsFollow ? { ...context.attributes, auto_pad: text('SAME_LOWER') } : context.attributes;
      const geometry = geometryOf({ ...context, attributes }, kernel, total);
      return { ...attributesOf(context, geometry, kernel), output_padding: ints(extra) };
    }),

  /** Vectors take part in a product as a row or a column. */
  MatMul(context) {
    const a = valueAt(context, 0);
    const b = valueAt(context, 1);
    const product = matmul(a.shape.length === 1 ? unsqueeze(a, [0]) : a, b.shape.length === 1 ? unsqueeze(b, [1]) : b);
    const rank = product.shape.length;
    const dropped = [...(a.shape.length === 1 ? [rank - 2] : []), ...(b.shape.length === 1 ? [rank - 1] : [])];
    return [dropped.length > 0 ? squeeze(product, dropped) : product];
  },

  /** Before opset 13, Softmax runs over all axes from `axis` on together. */
  Softmax(context) {
    const x = valueAt(context, 0);
    const rank = x.shape.length;
    const axis = axisAttribute(context, rank, context.opset < 13 ? 1 : -1);
    if (context.opset >= 13 || axis === rank - 1) return [softmax(x, axis)];
    const shape = fixedShape(x.shape);
    const rows = reshape(x, [elementCount(shape.slice(0, axis)), elementCount(shape.slice(axis))]);
    return [reshape(softmax(rows, 1), shape)];
  },

  /** Scale and bias are by group in opset 18 to 20, by channel from 21 on. */
  GroupNormalization(context) {
    const x = valueAt(context, 0);
    const groups = intAttribute(context.attributes, 'num_groups', 1);
    const channels = elementCount(x.shape.slice(1, 2));
    const byChannel = (parameter: Value) => {
      if (elementCount(parameter.shape) === channels) return parameter;
      const ones = tensorOf(parameter.dtype, [1, channels / groups], new Float32Array(channels / groups).fill(1));
      return reshape(matmul(reshape(parameter, [groups, 1]), context.materialise(ones)), [channels]);
    };
    const [weight, bias] = [byChannel(valueAt(context, 1)), byChannel(valueAt(context, 2))];
    const epsilon = floatAttribute(context.attributes, 'epsilon', 1e-5);
    const spatial = fixedShape(x.shape.slice(2));
    const image = reshape(x, [0, channels, elementCount(spatial), 1]);
    const normalised = groupNorm(x.shape.length === 4 ? x : image, groups, weight, bias, epsilon);
    return [x.shape.length === 4 ? normalised : reshape(normalised, [0, channels, ...spatial])];
  },

  /** The bias is optional; the scale is not. */
  LayerNormalization(context) {
    const bias = optionalValueAt(context, 2);
    const inputs = [valueAt(context, 0), valueAt(context, 1), ...(bias ? [bias] : [])];
    const { stash_type: _, ...attributes } = context.attributes;
    return applyOp('LayerNormalization', inputs, {
      attributes,
      outputCount: context.outputCount,
      graph: context.target,
    });
  },

  Einsum: einsum,
  Resize: resize,
  Upsample: resize,
};
