import type { Autoencoder } from '../../src/autoencoders/autoencoder.ts';
import { AutoencoderKL } from '../../src/autoencoders/autoencoder-kl.ts';
import { AutoencoderSession } from '../../src/autoencoders/session.ts';
import { VQModel } from '../../src/autoencoders/vq-model.ts';
import { initialParameters } from '../../src/models/model.ts';

/** Grey images of 8x8 as latents of 4x4 with two channels. */
const options = {
  sample_size: 8,
  in_channels: 1,
  out_channels: 1,
  latent_channels: 2,
  block_out_channels: [4, 4],
  layers_per_block: 1,
  norm_num_groups: 2,
  mid_block_add_attention: false,
  down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
  up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
} as const;

export const tinyKl = (changes: object = {}) => new AutoencoderKL({ ...options, ...changes });
export const tinyVq = (changes: object = {}) => new VQModel({ ...options, num_vq_embeddings: 16, ...changes });

/** An autoencoder with random weights, on the cpu. */
export function openTiny(autoencoder: Autoencoder = tinyKl(), seed = 0): Promise<AutoencoderSession> {
  return AutoencoderSession.create(autoencoder, initialParameters(autoencoder, seed), { device: 'cpu' });
}
