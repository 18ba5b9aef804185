import { describe, expect, it } from 'vitest';
import { AutoencoderKL, autoencoderFromConfig, latentSize, VQModel } from '../../src/autoencoders/index.ts';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import { initialParameters } from '../../src/models/model.ts';

const two = {
  block_out_channels: [32, 32],
  down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
  up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
} as const;

describe('configs', () => {
  it.each([
    [{ _class_name: 'AutoencoderKL', latent_channels: 0 }, 'latent_channels'],
    [{ _class_name: 'AutoencoderKL', scaling_factor: 0 }, 'scaling_factor'],
    [{ _class_name: 'AutoencoderKL', scaling_factor: Number.NaN }, 'scaling_factor'],
    [{ _class_name: 'VQModel', scaling_factor: -1 }, 'scaling_factor'],
    [{ _class_name: 'VQModel', scaling_factor: Number.POSITIVE_INFINITY }, 'scaling_factor'],
    [{ _class_name: 'AutoencoderKL', shift_factor: Number.NaN }, 'shift_factor'],
    [
      { _class_name: 'AutoencoderKL', block_out_channels: [32, 64] },
      'down_block_types (1), up_block_types (1) and block_out_channels (2) must be of one length',
    ],
    [{ _class_name: 'VQModel', ...two, up_block_types: ['UpDecoderBlock2D'] }, 'up_block_types (1)'],
    [{ _class_name: 'AutoencoderKL', ...two, sample_size: 33 }, 'sample_size 33 must be a multiple of 2'],
    [{ _class_name: 'AutoencoderKL', ...two, sample_size: [32, 31] }, 'sample_size 31 must be a multiple of 2'],
    [{ _class_name: 'AutoencoderKL', block_out_channels: [48] }, 'norm_num_groups 32 does not divide the 48 channels'],
    [{ _class_name: 'AutoencoderKL', in_channels: 1 }, 'in_channels is 1 and out_channels 3'],
    [{ _class_name: 'AutoencoderKL', act_fn: 'elu' }, 'act_fn'],
    [{ _class_name: 'AutoencoderKL', down_block_types: ['DownBlock2D'] }, 'down_block_types'],
    [{ _class_name: 'AutoencoderKL', latents_mean: [0, 0, 0, 0] }, 'latents_mean and latents_std go together'],
    [{ _class_name: 'AutoencoderKL', latents_mean: [0], latents_std: [1] }, 'latents_mean has 1 numbers for 4'],
    [{ _class_name: 'AutoencoderKL', latents_mean: [0, 0, 0, 0], latents_std: [1, 1, 1, 0] }, 'latents_std'],
    [{ _class_name: 'VQModel', norm_type: 'layer' }, 'norm_type'],
    [
      { _class_name: 'VQModel', norm_type: 'spatial', block_out_channels: [16], norm_num_groups: 8 },
      "norm_type 'spatial' needs channels that 32 divides, not 16",
    ],
    [{ _class_name: 'VQModel', norm_type: 'spatial', vq_embed_dim: 5 }, "norm_type 'spatial' needs a vq_embed_dim"],
    [{ _class_name: 'AutoencoderKL', quantization_config: { bits: 4 } }, 'quantised weights are not read here'],
    [{ _class_name: 'AutoencoderTiny' }, 'autoencoder class "AutoencoderTiny" is not known'],
  ])('%j is refused', (config, message) => {
    expect(() => autoencoderFromConfig(config)).toThrow(ConfigError);
    expect(() => autoencoderFromConfig(config)).toThrow(message);
  });

  it('have diffusers defaults', () => {
    const kl = new AutoencoderKL();
    expect(kl).toMatchObject({ channels: 3, latentChannels: 4, downsampling: 1, sampleSize: [32, 32] });
    expect(kl.scaling).toEqual({ factor: 0.18215, shift: 0, mean: undefined, std: undefined });
    expect(new VQModel({ vq_embed_dim: 8 }).latentChannels).toBe(8);
  });

  it('an option that is misspelt is named', () => {
    // @ts-expect-error: not an option
    expect(() => new AutoencoderKL({ latent_chanels: 4 })).toThrow("did you mean 'latent_channels'?");
  });
});

describe('latentSize', () => {
  const autoencoder = new AutoencoderKL(two);

  it('is that of the images by the downsampling', () => {
    expect(latentSize(autoencoder, [64, 32])).toEqual([32, 16]);
  });

  it.each([[[31, 32]], [[32, 0]], [[32, Number.NaN]]] as [[number, number]][])('refuses %j', (size) => {
    expect(() => latentSize(autoencoder, size)).toThrow(InvalidArgumentError);
  });
});

it('the codebook begins uniform within 1 / num_vq_embeddings, as that of diffusers', () => {
  const weights = initialParameters(new VQModel({ num_vq_embeddings: 50, vq_embed_dim: 64 }), 0);
  const largest = Math.max(...Array.from(weights.get('quantize.embedding.weight') ?? [], Math.abs));
  expect(largest).toBeGreaterThan(0.0199);
  expect(largest).toBeLessThanOrEqual(Math.fround(0.02));
});
