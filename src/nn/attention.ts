import type { Value } from '../graph/graph.ts';
import { add, mul } from '../graph/ops/index.ts';
import { scalarLike } from '../graph/registry.ts';
import type { ParameterSpec } from '../models/model.ts';
import { type ForwardContext, GroupNorm, type Layer, Linear, parametersOf } from './layers.ts';

export interface AttentionBlockOptions {
  readonly channels: number;
  /** Channels of a head; null is one head. */
  readonly headDim: number | null;
  /** Groups of the normalisation before; null is none. */
  readonly normGroups: number | null;
  readonly normEpsilon: number;
  /** What the result is divided by; default 1. */
  readonly outputScale?: number | undefined;
}

/** diffusers' `Attention` over the pixels, as its U-Net uses it: self-attention with biases and a way around. */
export class AttentionBlock implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly norm: GroupNorm | undefined;
  private readonly query: Linear;
  private readonly key: Linear;
  private readonly value: Linear;
  private readonly output: Linear;
  private readonly headDim: number;

  constructor(
    name: string,
    private readonly options: AttentionBlockOptions,
  ) {
    const { channels, headDim, normGroups, normEpsilon } = options;
    this.headDim = headDim ?? channels;
    this.norm =
      normGroups === null
        ? undefined
        : new GroupNorm(`${name}.group_norm`, normGroups, channels, normEpsilon);
    this.query = new Linear(`${name}.to_q`, channels, channels);
    this.key = new Linear(`${name}.to_k`, channels, channels);
    this.value = new Linear(`${name}.to_v`, channels, channels);
    this.output = new Linear(`${name}.to_out.0`, channels, channels);
    this.parameters = parametersOf([this.norm, this.query, this.key, this.value, this.output]);
  }

  forward(x: Value, context: ForwardContext): Value {
    const { outputScale = 1 } = this.options;
    const normalised = this.norm ? this.norm.forward(x, context) : x;
    const projections = {
      query: this.query.projection(context),
      key: this.key.projection(context),
      value: this.value.projection(context),
      output: this.output.projection(context),
    };
    const sum = add(context.maps.attention(normalised, projections, this.headDim), x);
    return outputScale === 1 ? sum : mul(sum, scalarLike(sum, 1 / outputScale));
  }
}
