import type { Value } from '../../graph/graph.ts';
import { cast, cos, log, mul, sin, stopGradient } from '../../graph/ops/elementwise.ts';
import { concat, unsqueeze } from '../../graph/ops/shape.ts';
import { scalarLike } from '../../graph/registry.ts';
import type { DType } from '../../graph/types.ts';
import type { ForwardContext } from '../../nn/context.ts';
import { Embedding } from '../../nn/layers.ts';
import { type Layer, normal, type ParameterSpec } from '../../nn/parameters.ts';
import { sinusoidalEmbedding } from '../../nn/time-embedding.ts';
import type { UNet2DConfig } from './config.ts';

/** The first encoding of the timestep, before its dense layers. */
export interface TimeProjection extends Layer {
  /** Length of the encoding. */
  readonly features: number;
  /** @param timestep [batch] or [1]. @returns [batch or 1, features], of type `dtype`. */
  forward(timestep: Value, dtype: DType, context: ForwardContext): Value;
}

/** The projection of `time_embedding_type`. */
export function timeProjection(config: UNet2DConfig): TimeProjection {
  const [channels = 1] = config.block_out_channels;
  switch (config.time_embedding_type) {
    case 'positional':
      return {
        features: channels,
        parameters: [],
        forward: (timestep, dtype) => sinusoidalEmbedding(timestep, channels, dtype, config),
      };
    case 'fourier':
      return new FourierProjection(channels);
    case 'learned':
      return new LearnedProjection(config.num_train_timesteps ?? 1, channels);
  }
}

/** diffusers' `GaussianFourierProjection` with scale 16: sines and cosines of 2 pi w log t, with random w that are kept. */
class FourierProjection implements TimeProjection {
  readonly features: number;
  readonly parameters: readonly ParameterSpec[];

  constructor(channels: number) {
    this.features = 2 * channels;
    this.parameters = [{ name: 'time_proj.weight', shape: [channels], isFrozen: true, init: normal(16) }];
  }

  forward(timestep: Value, dtype: DType, context: ForwardContext): Value {
    // In the type of the weight, which is not trained and so is float32 even where the model computes in float16.
    const weight = stopGradient(context.parameter('time_proj.weight'));
    const logs = unsqueeze(log(cast(timestep, weight.dtype)), [1]);
    const angles = mul(mul(logs, weight), scalarLike(weight, 2 * Math.PI));
    return cast(concat([sin(angles), cos(angles)], 1), dtype);
  }
}

/** An embedding for each training timestep. */
class LearnedProjection implements TimeProjection {
  readonly parameters: readonly ParameterSpec[];
  private readonly embedding: Embedding;

  constructor(
    timesteps: number,
    readonly features: number,
  ) {
    this.embedding = new Embedding('time_proj', timesteps, features);
    this.parameters = this.embedding.parameters;
  }

  forward(timestep: Value, _dtype: DType, context: ForwardContext): Value {
    return this.embedding.forward(timestep, context);
  }
}
