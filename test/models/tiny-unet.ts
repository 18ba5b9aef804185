import { UNet2DModel, type UNet2DOptions } from '../../src/models/index.ts';

/** Of grey images of 8x8: two levels, the deeper one with attention, so that every kind of block is there. */
export const tinyUNetOptions: UNet2DOptions = {
  sample_size: 8,
  in_channels: 1,
  out_channels: 1,
  block_out_channels: [8, 8],
  down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
  up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
  layers_per_block: 1,
  norm_num_groups: 4,
};

/** For tests that train longer: only the middle has attention. */
export const plainLevels = {
  down_block_types: ['DownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'UpBlock2D'],
} satisfies UNet2DOptions;

/** The `config.json` of a U-Net that takes its size and channels from the images. */
export const tinyUNetConfig = {
  _class_name: 'UNet2DModel',
  block_out_channels: [8, 8],
  ...plainLevels,
  layers_per_block: 1,
  norm_num_groups: 4,
} satisfies UNet2DOptions & { _class_name: string };

/** A U-Net of `tinyUNetOptions` but for `changes`. */
export const tinyUNet = (changes: UNet2DOptions = {}) => new UNet2DModel({ ...tinyUNetOptions, ...changes });
