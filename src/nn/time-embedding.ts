import type { Value } from '../graph/graph.ts';
import { cast, cos, mul, silu, sin } from '../graph/ops/elementwise.ts';
import { pad } from '../graph/ops/indexing.ts';
import { concat, unsqueeze } from '../graph/ops/shape.ts';
import { type DType, toTensorData } from '../graph/types.ts';
import type { ForwardContext } from './context.ts';
import { Linear } from './layers.ts';
import { type Layer, type ParameterSpec, parametersOf } from './parameters.ts';

/** Options of `sinusoidalEmbedding`, diffusers' names. */
export interface SinusoidalEmbeddingOptions {
  /** Cosines first, then sines. Default true, as in diffusers' U-Net; google/ddpm-* have false. */
  readonly flip_sin_to_cos?: boolean | undefined;
  /** What is subtracted from half the channels in the exponent of the frequencies, 0 or 1 in practice. Default 0. */
  readonly freq_shift?: number | undefined;
}

/**
 * diffusers' `get_timestep_embedding`: sines and cosines of t times half as many frequencies as there are channels,
 * exp(-ln(10000) i / (half - freq_shift)).
 *
 * @param timestep [batch] or [1], any integer or float type.
 * @param channels length of the embedding.
 * @param dtype of the result. For float16 the waves are computed in float32: float16 rounds angles near 999 to halves.
 * @returns [batch or 1, channels].
 */
export function sinusoidalEmbedding(
  timestep: Value,
  channels: number,
  dtype: DType,
  { flip_sin_to_cos = true, freq_shift = 0 }: SinusoidalEmbeddingOptions = {},
): Value {
  const half = Math.floor(channels / 2);
  const frequencies = Array.from({ length: half }, (_, i) => Math.exp((-Math.log(10_000) * i) / (half - freq_shift)));
  const wide = dtype === 'float16' ? 'float32' : dtype;
  const row = timestep.graph.constant(wide, [1, half], toTensorData(wide, frequencies));
  const angles = mul(unsqueeze(cast(timestep, wide), [1]), row);
  const waves = [sin(angles), cos(angles)];
  const embedding = cast(concat(flip_sin_to_cos ? waves.reverse() : waves, 1), dtype);
  return channels % 2 === 0 ? embedding : pad(embedding, [0, 0, 0, 1]);
}

/**
 * diffusers' `TimestepEmbedding`: two dense layers, `linear_1` and `linear_2`, with SiLU between them.
 *
 * @example
 * const embedding = new TimestepEmbedding('time_embedding', 64, 256);
 */
export class TimestepEmbedding implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];
  private readonly linear1: Linear;
  private readonly linear2: Linear;

  constructor(name: string, inFeatures: number, outFeatures: number) {
    this.linear1 = new Linear(`${name}.linear_1`, inFeatures, outFeatures);
    this.linear2 = new Linear(`${name}.linear_2`, outFeatures, outFeatures);
    this.parameters = parametersOf([this.linear1, this.linear2]);
  }

  /** @param x [batch or 1, inFeatures]. @returns [batch or 1, outFeatures]. */
  forward(x: Value, context: ForwardContext): Value {
    return this.linear2.forward(silu(this.linear1.forward(x, context)), context);
  }

  /** The type of the weights, in which x must be. */
  dtype(context: ForwardContext): DType {
    return this.linear1.bias(context).dtype;
  }
}

/** Options of `TimeEmbedding`. */
export interface TimeEmbeddingOptions extends SinusoidalEmbeddingOptions {
  /** Length of the sinusoidal embedding. */
  readonly in_channels: number;
  /** Length of the result. */
  readonly time_embed_dim: number;
}

/**
 * The embedding of the timestep, diffusers' `Timesteps` and `TimestepEmbedding`: a sinusoidal embedding through two dense
 * layers, `linear_1` and `linear_2`, with SiLU between them.
 *
 * @example
 * const embedding = new TimeEmbedding('time_embedding', { in_channels: 64, time_embed_dim: 256 });
 */
export class TimeEmbedding implements Layer {
  /** The tensors of the layer, in the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];
  private readonly layers: TimestepEmbedding;

  constructor(
    name: string,
    private readonly options: TimeEmbeddingOptions,
  ) {
    this.layers = new TimestepEmbedding(name, options.in_channels, options.time_embed_dim);
    this.parameters = this.layers.parameters;
  }

  /**
   * @param timestep [batch] or [1], any integer or float type.
   * @returns [batch or 1, time_embed_dim].
   */
  forward(timestep: Value, context: ForwardContext): Value {
    const waves = sinusoidalEmbedding(timestep, this.options.in_channels, this.layers.dtype(context), this.options);
    return this.layers.forward(waves, context);
  }
}

/**
 * The sinusoidal encodings of t = 1..rows (Vaswani et al. 2017, section 3.5) as rows x dim, row-major: entry 2i of a row
 * is sin(t / 10000^(2i/dim)), entry 2i+1 the cosine of the same angle. Row k encodes t = k + 1: timesteps count from 0
 * here, as in diffusers, while the paper's t counts from 1.
 */
export function sinusoidalTable(rows: number, dim: number): Float64Array {
  const table = new Float64Array(rows * dim);
  for (let j = 0; j < dim; j++) {
    const frequency = 10_000 ** (-(j - (j % 2)) / dim);
    const wave = j % 2 === 0 ? Math.sin : Math.cos;
    for (let row = 0; row < rows; row++) table[row * dim + j] = wave((row + 1) * frequency);
  }
  return table;
}
