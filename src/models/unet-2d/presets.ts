import { InvalidArgumentError } from '../../errors.ts';
import type { UNet2DOptions } from './config.ts';

/** What google/ddpm-* checkpoints have in common where they differ from the constructor's defaults. */
const ddpmConventions = {
  downsample_padding: 0,
  flip_sin_to_cos: false,
  freq_shift: 1,
  norm_eps: 1e-6,
  attention_head_dim: null,
} as const;

const presets = {
  /** google/ddpm-cifar10-32, the U-Net of Ho et al. (2020) for 32x32: 35,746,307 parameters. */
  'ddpm-cifar10': {
    ...ddpmConventions,
    sample_size: 32,
    block_out_channels: [128, 256, 256, 256],
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'],
    up_block_types: ['UpBlock2D', 'UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'],
  },
  /** The same for the paper's 64x64 sets: one level more, attention again at 16x16. */
  'ddpm-64': {
    ...ddpmConventions,
    sample_size: 64,
    block_out_channels: [128, 128, 256, 256, 256],
    down_block_types: ['DownBlock2D', 'DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'],
    up_block_types: ['UpBlock2D', 'UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D', 'UpBlock2D'],
  },
  /** For a first look, on a CPU too: 2.7 million parameters, attention at a quarter of the size. */
  small: {
    ...ddpmConventions,
    sample_size: 32,
    block_out_channels: [32, 64, 128],
    down_block_types: ['DownBlock2D', 'DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 16,
  },
  /** diffusers' examples/unconditional_image_generation/train_unconditional.py. */
  default: {
    sample_size: 64,
    block_out_channels: [128, 128, 256, 256, 512, 512],
    down_block_types: ['DownBlock2D', 'DownBlock2D', 'DownBlock2D', 'DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D'],
    up_block_types: ['UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D', 'UpBlock2D', 'UpBlock2D', 'UpBlock2D'],
  },
} satisfies Record<string, UNet2DOptions>;

/** The name of a known U-Net, for `unet2DPreset`. */
export type UNet2DPreset = keyof typeof presets;
/** The names that `unet2DPreset` takes. */
export const UNET_2D_PRESETS = Object.keys(presets) as UNet2DPreset[];

/**
 * Options of a known U-Net: `ddpm-cifar10` (32x32), `ddpm-64` (64x64), `default` (diffusers' training script) or `small`
 * (32x32, for a CPU).
 *
 * @param overrides take the place of the preset's, e.g. `{ in_channels: 1, out_channels: 1 }`.
 * @throws {InvalidArgumentError} when there is no such preset.
 * @example
 * const model = new UNet2DModel(unet2DPreset('ddpm-64', { sample_size: 128 }));
 */
export function unet2DPreset(name: UNet2DPreset, overrides: UNet2DOptions = {}): UNet2DOptions {
  if (!Object.hasOwn(presets, name))
    throw new InvalidArgumentError(`there is no U-Net preset '${name}': choose one of ${UNET_2D_PRESETS.join(', ')}`);
  return { ...presets[name], ...overrides };
}
