/**
 * `iso-diffusion/nn`: the layers that models are built from, named and initialised as in torch and diffusers. A layer
 * lists its parameters and adds itself to a graph in `forward`, where a `ForwardContext` gives it the parameters' values.
 *
 * @packageDocumentation
 *
 * @example
 * class Mlp implements Layer {
 *   private readonly hidden = new Linear('hidden', 64, 256);
 *   private readonly output = new Linear('output', 256, 64);
 *   readonly parameters = parametersOf([this.hidden, this.output]);
 *
 *   forward(x: Value, context: ForwardContext): Value {
 *     return this.output.forward(gelu(this.hidden.forward(x, context)), context);
 *   }
 * }
 */

export { Attention, PixelAttention, type PixelAttentionOptions } from './attention.ts';
export { ForwardContext, type ForwardContextOptions } from './context.ts';
export { hwnc } from './hwnc.ts';
export {
  type ActivationName,
  activation,
  Conv2d,
  Dropout,
  Embedding,
  GroupNorm,
  gelu,
  geluTanh,
  LayerNorm,
  type LayerNormOptions,
  Linear,
  type LinearOptions,
} from './layers.ts';
export { type AttentionProjections, type Layout, nchw, type Projection } from './layout.ts';
export {
  type Initializer,
  type Layer,
  normal,
  ones,
  type ParameterSpec,
  type ParameterValues,
  parametersOf,
  uniformByFanIn,
  zeros,
} from './parameters.ts';
export {
  type SinusoidalEmbeddingOptions,
  sinusoidalEmbedding,
  sinusoidalTable,
  TimeEmbedding,
  type TimeEmbeddingOptions,
} from './time-embedding.ts';
