import type { Value } from '../../graph/graph.ts';
import { scalarLike } from '../../graph/op-registry.ts';
import { add, matmul, mul, reshape, softmax, transpose } from '../../graph/ops/index.ts';
import { fixedShape } from '../../graph/tensor-type.ts';
import type { ParameterSpec, ParameterValues } from '../model.ts';
import { GroupNorm, type Layer, Linear, parametersOf } from './layers.ts';

export interface AttentionBlockOptions {
  readonly channels: number;
  /** Channels of a head; null is one head. */
  readonly headDim: number | null;
  /** Groups of the normalisation before; null is none. */
  readonly normGroups: number | null;
  readonly normEpsilon: number;
  /** What the result is divided by; default 1. */
  readonly outputScale?: number;
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

  /** x [batch, channels, height, width]. */
  forward(x: Value, values: ParameterValues): Value {
    const { channels, outputScale = 1 } = this.options;
    const [height = 1, width = 1] = fixedShape(x.shape.slice(2));
    const normalised = this.norm ? this.norm.forward(x, values) : x;
    const pixels = reshape(normalised, [0, channels, height * width]);
    const toHeads = (layer: Linear) =>
      reshape(project(layer, pixels, values), [0, channels / this.headDim, this.headDim, height * width]);
    const scaled = mul(toHeads(this.query), scalarLike(x, this.headDim ** -0.5));
    const weights = softmax(matmul(transpose(scaled, [0, 1, 3, 2]), toHeads(this.key)));
    const mixed = matmul(toHeads(this.value), transpose(weights, [0, 1, 3, 2]));
    const joined = project(this.output, reshape(mixed, [0, channels, height * width]), values);
    const sum = add(reshape(joined, [0, channels, height, width]), x);
    return outputScale === 1 ? sum : mul(sum, scalarLike(sum, 1 / outputScale));
  }
}

/** A dense layer on channels-first pixels [batch, channels, pixels], which spares the transposes of torch's layout. */
function project(layer: Linear, pixels: Value, values: ParameterValues): Value {
  return add(matmul(layer.weight(values), pixels), reshape(layer.bias(values), [-1, 1]));
}
