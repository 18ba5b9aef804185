// The layers of blocks, as the config describes them.

import { ConfigError } from '../../errors.ts';
import { PixelAttention, type PixelAttentionOptions } from '../../nn/attention.ts';
import { GroupNorm } from '../../nn/layers.ts';
import { ResnetBlock, type ResnetBlockOptions } from '../../nn/resnet-block.ts';
import type { UNet2DConfig } from './config.ts';

type FromConfig = 'activation' | 'groups' | 'epsilon' | 'scalesAndShifts' | 'dropout';

/** What the config does not say of a residual block, and groups other than its own. */
export type OwnResnetOptions = Omit<ResnetBlockOptions, FromConfig> & Partial<Pick<ResnetBlockOptions, 'groups'>>;

export function resnetOptions(name: string, config: UNet2DConfig, options: OwnResnetOptions): ResnetBlockOptions {
  const { inChannels, outChannels, groups = groupsFor(config, inChannels), outGroups = groups } = options;
  refuseGroups(groups, inChannels, `${name}.norm1`);
  refuseGroups(outGroups, outChannels, `${name}.norm2`);
  return {
    ...options,
    activation: config.act_fn,
    groups,
    epsilon: config.norm_eps,
    scalesAndShifts: config.resnet_time_scale_shift === 'scale_shift',
    dropout: config.dropout,
  };
}

export function resnetBlock(name: string, config: UNet2DConfig, options: OwnResnetOptions): ResnetBlock {
  return new ResnetBlock(name, resnetOptions(name, config, options));
}

/** What the config does not say of an attention, and groups other than its own; null is no normalisation. */
export type OwnAttentionOptions = Pick<PixelAttentionOptions, 'channels' | 'output_scale_factor'> &
  Partial<Pick<PixelAttentionOptions, 'norm_num_groups'>>;

export function attentionOptions(
  name: string,
  config: UNet2DConfig,
  options: OwnAttentionOptions,
): PixelAttentionOptions {
  const { channels, norm_num_groups = groupsFor(config, channels) } = options;
  if (norm_num_groups !== null) refuseGroups(norm_num_groups, channels, `${name}.group_norm`);
  const { attention_head_dim: head_dim, norm_eps } = config;
  return { ...options, head_dim, norm_num_groups, norm_eps };
}

export function blockAttention(name: string, config: UNet2DConfig, options: OwnAttentionOptions): PixelAttention {
  return new PixelAttention(name, attentionOptions(name, config, options));
}

export function groupNorm(name: string, config: UNet2DConfig, channels: number, groups = groupsFor(config, channels)) {
  refuseGroups(groups, channels, name);
  return new GroupNorm(name, groups, channels, config.norm_eps);
}

/** The groups of a normalisation, which diffusers chooses where the config has no number. */
export function groupsFor({ norm_num_groups }: Pick<UNet2DConfig, 'norm_num_groups'>, channels: number): number {
  return norm_num_groups ?? quarterGroups(channels);
}

/** score-SDE's number of groups. */
export function quarterGroups(channels: number): number {
  return Math.min(Math.floor(channels / 4), 32);
}

/** @throws {ConfigError} unless the groups divide the channels. */
function refuseGroups(groups: number, channels: number, name: string): void {
  if (groups > 0 && channels % groups === 0) return;
  throw new ConfigError(
    `wrong UNet2DModel config: norm_num_groups ${groups} does not divide the ${channels} channels of ${name}. Skip blocks have a quarter of their channels as groups, at most 32, and 32 before attention; other blocks have what the config says`,
  );
}
