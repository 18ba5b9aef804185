import { z } from 'zod';
import { ConfigError } from '../../errors.ts';

const channelCount = z.int().min(1).max(16_384);
const side = z.int().min(1).max(8192);
const nothing = z.null().default(null);

/**
 * diffusers' `UNet2DModel` constructor (0.30). A key that a file lacks takes the constructor's default, which differs
 * from many published checkpoints: older files that rely on other defaults were written with every key.
 */
const configSchema = z.strictObject({
  sample_size: z
    .union([side, z.tuple([side, side])])
    .nullable()
    .default(null),
  in_channels: channelCount.default(3),
  out_channels: channelCount.default(3),
  center_input_sample: z.boolean().default(false),
  time_embedding_type: z.literal('positional').default('positional'),
  freq_shift: z.number().min(0).max(64).default(0),
  flip_sin_to_cos: z.boolean().default(true),
  down_block_types: z
    .array(z.enum(['DownBlock2D', 'AttnDownBlock2D']))
    .min(1)
    .max(16)
    .default(['DownBlock2D', 'AttnDownBlock2D', 'AttnDownBlock2D', 'AttnDownBlock2D']),
  up_block_types: z
    .array(z.enum(['UpBlock2D', 'AttnUpBlock2D']))
    .min(1)
    .max(16)
    .default(['AttnUpBlock2D', 'AttnUpBlock2D', 'AttnUpBlock2D', 'UpBlock2D']),
  block_out_channels: z.array(channelCount).min(1).max(16).default([224, 448, 672, 896]),
  layers_per_block: z.int().min(1).max(64).default(2),
  mid_block_type: z.literal('UNetMidBlock2D').default('UNetMidBlock2D'),
  mid_block_scale_factor: z.number().positive().default(1),
  downsample_padding: z.literal([0, 1]).default(1),
  downsample_type: z.literal('conv').default('conv'),
  upsample_type: z.literal('conv').default('conv'),
  dropout: z.number().min(0).lt(1).default(0),
  act_fn: z.enum(['silu', 'swish', 'relu']).default('silu'),
  attention_head_dim: channelCount.nullable().default(8),
  norm_num_groups: channelCount.default(32),
  attn_norm_num_groups: channelCount.nullable().default(null),
  norm_eps: z.number().positive().default(1e-5),
  resnet_time_scale_shift: z.enum(['default', 'scale_shift']).default('default'),
  add_attention: z.boolean().default(true),
  class_embed_type: nothing,
  num_class_embeds: z.int().min(1).max(1_000_000).nullable().default(null),
  num_train_timesteps: z.int().min(1).nullable().default(null),
});

/** Options of `UNet2DModel`, diffusers' names and defaults; every one but `sample_size` may be left out. */
export type UNet2DOptions = z.input<typeof configSchema>;

/** The whole configuration, as it is written to `config.json`. */
export type UNet2DConfig = z.output<typeof configSchema> & { readonly _class_name: 'UNet2DModel' };

/** @throws {ConfigError} that names each key which is unknown, out of range, or in conflict with another. */
export function parseUNet2DOptions(options: UNet2DOptions): UNet2DConfig {
  const parsed = configSchema.safeParse(options);
  if (!parsed.success) throw new ConfigError(`wrong UNet2DModel config: ${z.prettifyError(parsed.error)}`);
  refuseConflicts(parsed.data);
  return { _class_name: 'UNet2DModel', ...parsed.data };
}

/**
 * Builds the options of a parsed `config.json`. Keys that begin with `_` are notes of the writing library. The first
 * versions of diffusers put `UNetRes` before the names of blocks.
 */
export function optionsFromJson(json: unknown): UNet2DOptions {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new ConfigError('a UNet2DModel config must be a JSON object');
  if (!('_class_name' in json) || json._class_name !== 'UNet2DModel')
    throw new ConfigError('expected a config with "_class_name": "UNet2DModel"');
  const present = (value: unknown) =>
    Array.isArray(value)
      ? value.map((item) => (typeof item === 'string' ? item.replace(/^UNetRes/, '') : item))
      : value;
  return Object.fromEntries(
    Object.entries(json)
      .filter(([key]) => !key.startsWith('_'))
      .map(([key, value]) => [key, present(value)]),
  );
}

/** Height and width of a sample. @throws {ConfigError} where `sample_size` is null. */
export function sampleSize({ sample_size }: UNet2DConfig): readonly [number, number] {
  if (sample_size === null)
    throw new ConfigError('sample_size is null: give the height and width of the images');
  return typeof sample_size === 'number' ? [sample_size, sample_size] : sample_size;
}

function refuseConflicts(config: z.output<typeof configSchema>): void {
  const { block_out_channels, down_block_types, up_block_types, norm_num_groups, attention_head_dim } =
    config;
  const fail = (reason: string): never => {
    throw new ConfigError(`wrong UNet2DModel config: ${reason}`);
  };
  const levels = block_out_channels.length;
  if (down_block_types.length !== levels || up_block_types.length !== levels)
    fail(
      `down_block_types (${down_block_types.length}), up_block_types (${up_block_types.length}) and block_out_channels (${levels}) must be of one length`,
    );
  for (const channels of block_out_channels)
    if (channels % norm_num_groups !== 0)
      fail(`norm_num_groups ${norm_num_groups} does not divide the ${channels} channels of a block`);
  const attended = block_out_channels.filter(
    (_, i) =>
      down_block_types[i] === 'AttnDownBlock2D' ||
      up_block_types[levels - 1 - i] === 'AttnUpBlock2D' ||
      (config.add_attention && i === levels - 1),
  );
  for (const channels of attended)
    if (attention_head_dim !== null && channels % attention_head_dim !== 0)
      fail(`attention_head_dim ${attention_head_dim} does not divide the ${channels} channels of a block`);
  const { sample_size } = config;
  const halvings = 2 ** (levels - 1);
  for (const length of sample_size === null ? [] : [sample_size].flat())
    if (length % halvings !== 0)
      fail(`sample_size ${length} must be a multiple of ${halvings}: it is halved ${levels - 1} times`);
}
