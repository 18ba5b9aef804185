import type { ImageSet } from '../../datasets/images/image-set.ts';
import { UNet2DModel, type UNet2DOptions, unet2DPreset } from '../../models/index.ts';
import type { ImageJob } from './job.ts';

/** Trains in a minute on a CPU: two levels, attention at half the resolution. */
const TINY = {
  block_out_channels: [16, 32],
  down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
  up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
  layers_per_block: 1,
  norm_num_groups: 8,
} satisfies UNet2DOptions;

/** @throws {ConfigError} when the model cannot take images of this size. */
export function imageModel(
  model: ImageJob['model'],
  { height, width, channels }: Pick<ImageSet, 'height' | 'width' | 'channels'>,
): UNet2DModel {
  const shape = {
    sample_size: [height, width] as [number, number],
    in_channels: channels,
    out_channels: channels,
  };
  return new UNet2DModel(model === 'tiny' ? { ...TINY, ...shape } : unet2DPreset(model, shape));
}
