import { GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import type { Conv2dOptions } from '../graph/ops/conv/geometry.ts';
import { add, erf, mul, relu, silu, softplus, tanh } from '../graph/ops/elementwise.ts';
import { gather } from '../graph/ops/indexing.ts';
import { gemm, matmul } from '../graph/ops/matmul.ts';
import { layerNorm } from '../graph/ops/normalization.ts';
import { reshape, transpose } from '../graph/ops/shape.ts';
import { scalarLike } from '../graph/registry.ts';
import { formatShape } from '../graph/types.ts';
import type { ForwardContext } from './context.ts';
import type { Projection } from './layout.ts';
import { type Initializer, type Layer, normal, ones, type ParameterSpec, uniformByFanIn, zeros } from './parameters.ts';

/** Options of `Linear`. */
export interface LinearOptions {
  /** Whether a bias is added. Default true. */
  readonly bias?: boolean | undefined;
  /** How the weight starts. Default uniform in +-1/sqrt(inFeatures). */
  readonly weight_init?: Initializer | undefined;
  /** How the bias starts. Default uniform in +-1/sqrt(inFeatures). */
  readonly bias_init?: Initializer | undefined;
}

/**
 * torch's nn.Linear: x W^T + b with `weight` [outFeatures, inFeatures] and `bias` [outFeatures].
 *
 * @example
 * const head = new Linear('head', 64, 16, { weight_init: zeros, bias_init: zeros });
 */
export class Linear implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];
  private readonly hasBias: boolean;

  constructor(
    private readonly name: string,
    private readonly inFeatures: number,
    private readonly outFeatures: number,
    options: LinearOptions = {},
  ) {
    const { bias = true, weight_init, bias_init } = options;
    const init = uniformByFanIn(inFeatures);
    this.hasBias = bias;
    this.parameters = [
      { name: `${name}.weight`, shape: [outFeatures, inFeatures], init: weight_init ?? init },
      ...(bias ? [{ name: `${name}.bias`, shape: [outFeatures], init: bias_init ?? init }] : []),
    ];
  }

  /**
   * @param x [..., inFeatures].
   * @param bias what is added to x W^T, broadcast to it; default the layer's own bias.
   * @returns [..., outFeatures].
   * @throws {GraphError} when the last axis of x is not `inFeatures` long.
   */
  forward(x: Value, context: ForwardContext, bias?: Value): Value {
    const leading = x.shape.slice(0, -1);
    if (leading.length === 0 || x.shape.at(-1) !== this.inFeatures)
      throw new GraphError(`${this.name}: the input must be [..., ${this.inFeatures}], but is ${formatShape(x.shape)}`);
    const added = bias ?? (this.hasBias ? this.bias(context) : undefined);
    const weight = this.weight(context);
    if (leading.length === 1) return gemm(x, weight, added, { transB: true });
    const lengths = leading.filter((dim) => typeof dim === 'number');
    if (lengths.length === leading.length) {
      // As rows: the gradient of the weight is then one product, not one for each sample.
      const rows = gemm(reshape(x, [-1, this.inFeatures]), weight, undefined, { transB: true });
      // The first axis is left open: that of a timestep may have another length when the model is run.
      return plus(reshape(rows, [-1, ...lengths.slice(1), this.outFeatures]), added);
    }
    return plus(matmul(x, transpose(weight)), added);
  }

  /** [outFeatures, inFeatures]. */
  weight(context: ForwardContext): Value {
    return context.parameter(`${this.name}.weight`);
  }

  /** [outFeatures]. */
  bias(context: ForwardContext): Value {
    return context.parameter(`${this.name}.bias`);
  }

  /** Weight and bias, for a layout that applies them itself. */
  projection(context: ForwardContext): Projection {
    return { weight: this.weight(context), bias: this.bias(context) };
  }
}

function plus(product: Value, bias: Value | undefined): Value {
  return bias ? add(product, bias) : product;
}

/**
 * torch's nn.Conv2d with a square kernel, on feature maps in the layout of the context: `weight` [outChannels, inChannels,
 * kernel, kernel] and `bias` [outChannels], both uniform in +-1/sqrt(inChannels kernel^2) at first.
 *
 * @example
 * const patches = new Conv2d('patch_embed', 3, 64, 4, { strides: [4, 4] });
 */
export class Conv2d implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];

  constructor(
    private readonly name: string,
    inChannels: number,
    outChannels: number,
    kernel: number,
    private readonly options: Pick<Conv2dOptions, 'strides' | 'pads'> = {},
  ) {
    const init = uniformByFanIn(inChannels * kernel * kernel);
    this.parameters = [
      { name: `${name}.weight`, shape: [outChannels, inChannels, kernel, kernel], isFilter: true, init },
      { name: `${name}.bias`, shape: [outChannels], init },
    ];
  }

  /** @param x feature maps of `inChannels`. @returns feature maps of `outChannels`. */
  forward(x: Value, context: ForwardContext): Value {
    const filters = context.parameter(`${this.name}.weight`);
    return context.layout.conv2d(x, filters, context.parameter(`${this.name}.bias`), this.options);
  }
}

/** A convolution that keeps the size: 3x3 with a border of one. */
export function sameConv(name: string, inChannels: number, outChannels: number): Conv2d {
  return new Conv2d(name, inChannels, outChannels, 3, { pads: [1, 1, 1, 1] });
}

/**
 * torch's nn.GroupNorm on feature maps in the layout of the context: `weight` [channels], ones at first, and `bias`
 * [channels], zeros at first.
 */
export class GroupNorm implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];

  /**
   * @param groups a divisor of `channels`.
   * @param epsilon added to the variance; default 1e-5.
   */
  constructor(
    private readonly name: string,
    private readonly groups: number,
    channels: number,
    private readonly epsilon = 1e-5,
  ) {
    this.parameters = [
      { name: `${name}.weight`, shape: [channels], init: ones },
      { name: `${name}.bias`, shape: [channels], init: zeros },
    ];
  }

  /** Normalises each sample. @param x feature maps of `channels`. @returns the same shape. */
  forward(x: Value, context: ForwardContext): Value {
    const weight = context.parameter(`${this.name}.weight`);
    const bias = context.parameter(`${this.name}.bias`);
    return context.layout.groupNorm(x, this.groups, weight, bias, this.epsilon);
  }
}

/** Options of `LayerNorm`. */
export interface LayerNormOptions {
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number | undefined;
  /** Whether it has a `weight` and a `bias`. Default true; adaLN has false and scales by the condition instead. */
  readonly elementwise_affine?: boolean | undefined;
}

/**
 * torch's nn.LayerNorm over the last axis: `weight` [features], ones at first, and `bias` [features], zeros at first.
 *
 * @example
 * const norm = new LayerNorm('blocks.0.norm1', 64, { eps: 1e-6, elementwise_affine: false });
 */
export class LayerNorm implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];
  private readonly epsilon: number;

  constructor(
    private readonly name: string,
    private readonly features: number,
    { eps = 1e-5, elementwise_affine = true }: LayerNormOptions = {},
  ) {
    this.epsilon = eps;
    this.parameters = elementwise_affine
      ? [
          { name: `${name}.weight`, shape: [features], init: ones },
          { name: `${name}.bias`, shape: [features], init: zeros },
        ]
      : [];
  }

  /** @param x [..., features]. @throws {GraphError} when the last axis is not `features` long. */
  forward(x: Value, context: ForwardContext): Value {
    if (x.shape.at(-1) !== this.features)
      throw new GraphError(`${this.name}: the input must be [..., ${this.features}], but is ${formatShape(x.shape)}`);
    const [weight, bias] = this.parameters.map(({ name }) => context.parameter(name));
    return layerNorm(x, weight, bias, this.epsilon);
  }
}

/**
 * torch's nn.Embedding: a row of `weight` [count, features] for each index; standard normal at first.
 *
 * @example
 * const classes = new Embedding('class_embedding', 10, 256);
 */
export class Embedding implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];

  constructor(
    private readonly name: string,
    count: number,
    features: number,
  ) {
    this.parameters = [{ name: `${name}.weight`, shape: [count, features], init: normal() }];
  }

  /**
   * @param indices [...], int32 or int64, each in 0..count-1.
   * @returns [..., features].
   */
  forward(indices: Value, context: ForwardContext): Value {
    return gather(context.parameter(`${this.name}.weight`), indices);
  }
}

/** torch's nn.Dropout: drops elements in training, and is the identity in a model that is used. */
export class Dropout implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[] = [];

  /** @param probability of an element to become 0, in [0, 1). */
  constructor(private readonly probability: number) {}

  /** Drops in training. @param x of any shape. @returns the same shape; x itself in a model that is used. */
  forward(x: Value, context: ForwardContext): Value {
    return context.dropout(x, this.probability);
  }
}

/** GELU (Hendrycks & Gimpel 2016), x times the standard normal distribution function of x, by erf as torch's nn.GELU. */
export function gelu(x: Value): Value {
  const scaled = erf(mul(x, scalarLike(x, Math.SQRT1_2)));
  return mul(mul(x, scalarLike(x, 0.5)), add(scaled, scalarLike(x, 1)));
}

/** torch's nn.GELU(approximate='tanh'). */
export function geluTanh(x: Value): Value {
  const cubic = mul(mul(x, mul(x, x)), scalarLike(x, 0.044715));
  const inner = tanh(mul(add(x, cubic), scalarLike(x, Math.sqrt(2 / Math.PI))));
  return mul(mul(x, scalarLike(x, 0.5)), add(inner, scalarLike(x, 1)));
}

/** Mish (Misra 2019), x tanh(softplus(x)), as torch's nn.Mish. */
export function mish(x: Value): Value {
  return mul(x, tanh(softplus(x)));
}

const activations = { silu, swish: silu, relu, gelu, mish };

/** Names of activations, as diffusers' `act_fn`. */
export type ActivationName = keyof typeof activations;

/** The activation of a name; `swish` is another name of SiLU. */
export function activation(name: ActivationName): (x: Value) => Value {
  return activations[name];
}
