import type { Value } from '../graph/graph.ts';
import { cast, concat, cos, mul, pad, sin, unsqueeze } from '../graph/ops/index.ts';
import type { UNet2DConfig } from '../models/unet-2d/config.ts';

/**
 * diffusers' `get_timestep_embedding`: sines and cosines of t times half as many frequencies as there are channels,
 * exp(-ln(10000) i / (half - freq_shift)).
 *
 * @param timestep [batch] or [1], any integer or float type.
 * @returns [batch or 1, channels], of the dtype of `like`.
 */
export function sinusoidalEmbedding(
  timestep: Value,
  channels: number,
  config: UNet2DConfig,
  like: Value,
): Value {
  const half = Math.floor(channels / 2);
  const frequencies = Array.from({ length: half }, (_, i) =>
    Math.exp((-Math.log(10_000) * i) / (half - config.freq_shift)),
  );
  const data = like.dtype === 'float64' ? Float64Array.from(frequencies) : Float32Array.from(frequencies);
  const row = like.graph.constant(like.dtype, [1, half], data);
  const angles = mul(unsqueeze(cast(timestep, like.dtype), [1]), row);
  const waves = [sin(angles), cos(angles)];
  const embedding = concat(config.flip_sin_to_cos ? waves.reverse() : waves, 1);
  return channels % 2 === 0 ? embedding : pad(embedding, [0, 0, 0, 1]);
}
