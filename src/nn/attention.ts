import { InvalidArgumentError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { add, mul } from '../graph/ops/elementwise.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { softmax } from '../graph/ops/normalization.ts';
import { reshape, transpose } from '../graph/ops/shape.ts';
import { scalarLike } from '../graph/registry.ts';
import type { ForwardContext } from './context.ts';
import { GroupNorm, Linear } from './layers.ts';
import { type Layer, type ParameterSpec, parametersOf } from './parameters.ts';
import { SpatialNorm } from './spatial-norm.ts';

/** The query, key, value and output layers of an attention, named as in diffusers. */
function projections(name: string, channels: number, inner = channels) {
  return {
    query: new Linear(`${name}.to_q`, channels, inner),
    key: new Linear(`${name}.to_k`, channels, inner),
    value: new Linear(`${name}.to_v`, channels, inner),
    output: new Linear(`${name}.to_out.0`, inner, channels),
  };
}

/**
 * Multi-head self-attention over a sequence (Vaswani et al. 2017): softmax(q k^T / sqrt(d)) v in `heads` heads of d =
 * channels / heads channels, then a dense layer. Parameters as diffusers' `Attention` with biases: `to_q`, `to_k`, `to_v`
 * and `to_out.0`.
 *
 * @example
 * const attention = new Attention('blocks.0.attn', 64, 4);
 */
export class Attention implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];
  private readonly layers: ReturnType<typeof projections>;
  private readonly headDim: number;

  /** @throws {InvalidArgumentError} when the heads do not divide the channels. */
  constructor(
    name: string,
    private readonly channels: number,
    private readonly heads: number,
  ) {
    if (!Number.isInteger(heads) || heads < 1 || channels % heads !== 0)
      throw new InvalidArgumentError(
        `${name}: ${heads} heads do not divide ${channels} channels: choose a divisor of ${channels}`,
      );
    this.headDim = channels / heads;
    this.layers = projections(name, channels);
    this.parameters = parametersOf(Object.values(this.layers));
  }

  /** @param x [batch, tokens, channels]. @returns the same shape. */
  forward(x: Value, context: ForwardContext): Value {
    const { query, key, value, output } = this.layers;
    const toHeads = (layer: Linear) => reshape(layer.forward(x, context), [0, 0, this.heads, this.headDim]);
    // Scaled before the axes move: onnxruntime would merge a product by a number with the matrix product that follows, but
    // only where nothing else needs it, and so compute checkpoints that are kept differently from those that are not.
    const scaled = mul(toHeads(query), scalarLike(x, this.headDim ** -0.5));
    const queries = transpose(scaled, [0, 2, 1, 3]);
    const keys = transpose(toHeads(key), [0, 2, 3, 1]);
    const values = transpose(toHeads(value), [0, 2, 1, 3]);
    const weights = softmax(matmul(queries, keys));
    const joined = reshape(transpose(matmul(weights, values), [0, 2, 1, 3]), [0, 0, this.channels]);
    return output.forward(joined, context);
  }
}

/** Options of `PixelAttention`. */
export interface PixelAttentionOptions {
  /** Channels of the feature maps. */
  readonly channels: number;
  /** Channels of a head, 1 to `channels`; there are as many heads as fit. null is one head. */
  readonly head_dim: number | null;
  /** Groups of the normalisation before; null is none. */
  readonly norm_num_groups: number | null;
  /** Added to the variance of the normalisation. */
  readonly norm_eps: number;
  /** Channels of the latents that a `SpatialNorm` before is conditioned on. Default: there is none. */
  readonly spatial_norm_dim?: number | undefined;
  /** What the result is divided by. Default 1. */
  readonly output_scale_factor?: number | undefined;
}

/**
 * diffusers' `Attention` as its U-Net uses it: group normalisation, self-attention over the pixels of feature maps in the
 * layout of the context, and a residual connection.
 */
export class PixelAttention implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];
  private readonly norm: GroupNorm | undefined;
  private readonly spatialNorm: SpatialNorm | undefined;
  private readonly layers: ReturnType<typeof projections>;
  private readonly headDim: number;
  private readonly outputScale: number;

  constructor(name: string, options: PixelAttentionOptions) {
    const { channels, head_dim, norm_num_groups, norm_eps, spatial_norm_dim, output_scale_factor = 1 } = options;
    this.headDim = head_dim ?? channels;
    this.outputScale = output_scale_factor;
    this.norm =
      norm_num_groups === null ? undefined : new GroupNorm(`${name}.group_norm`, norm_num_groups, channels, norm_eps);
    this.spatialNorm =
      spatial_norm_dim === undefined ? undefined : new SpatialNorm(`${name}.spatial_norm`, channels, spatial_norm_dim);
    const heads = Math.floor(channels / this.headDim);
    this.layers = projections(name, channels, heads * this.headDim);
    this.parameters = parametersOf([this.norm, this.spatialNorm, ...Object.values(this.layers)]);
  }

  /**
   * @param x feature maps of `channels`.
   * @param latents feature maps that the `SpatialNorm` is conditioned on, where there is one.
   * @throws {GraphError} when there is one, and no latents.
   */
  forward(x: Value, context: ForwardContext, latents?: Value): Value {
    const conditioned = this.spatialNorm ? this.spatialNorm.forward(x, latents, context) : x;
    const normalised = this.norm ? this.norm.forward(conditioned, context) : conditioned;
    const { query, key, value, output } = this.layers;
    const weights = {
      query: query.projection(context),
      key: key.projection(context),
      value: value.projection(context),
      output: output.projection(context),
    };
    const sum = add(context.layout.attention(normalised, weights, this.headDim), x);
    return this.outputScale === 1 ? sum : mul(sum, scalarLike(sum, 1 / this.outputScale));
  }
}
