import { ConfigError } from '../../errors.ts';
import { type Complete, type Fields, parseOptions, warnOfUnknownKeys } from '../../options.ts';
import * as z from '../../zod.ts';
import { configOptions } from '../model.ts';

const channelCount = z.int().check(z.gte(1), z.lte(16_384));
const side = z.int().check(z.gte(1), z.lte(8192));

/**
 * Options of `UNet2DModel`: those of diffusers' constructor (0.40), with its names and defaults. Every one but
 * `sample_size` may be left out. A key that a file lacks takes the constructor's default, which differs from many published
 * checkpoints: older files that rely on other defaults were written with every key.
 */
export interface UNet2DOptions {
  /**
   * Side, or [height, width], of the images in pixels, 1 to 8192, each a multiple of 2 to the power of (levels - 1).
   * Default null: a trainer takes the size of its images, and `pipeline()` the one it is given.
   */
  readonly sample_size?: number | readonly [height: number, width: number] | null | undefined;
  /** Channels of a sample and of its condition, 1 to 16,384; default 3. */
  readonly in_channels?: number | undefined;
  /** Channels of the output, 1 to 16,384; default 3. Twice those of a sample for a model that learns the variance. */
  readonly out_channels?: number | undefined;
  /**
   * How many of the `in_channels`, the last ones, are an image that is given beside the sample, such as a small image to be
   * enlarged, or a mask and what it leaves: 0 to `in_channels` - 1. Default null: as many as `in_channels` exceeds
   * `out_channels`. diffusers does not know this option, and needs it where the variance is learned only.
   */
  readonly condition_channels?: number | null | undefined;
  /** Maps the sample to 2 x - 1 first; default false. */
  readonly center_input_sample?: boolean | undefined;
  /**
   * How the timestep is encoded: 'positional' (default, sinusoidal); 'fourier', random frequencies of its logarithm, which
   * are not trained, for models that are told noise levels above 0; 'learned', a vector for each of `num_train_timesteps`.
   */
  readonly time_embedding_type?: 'positional' | 'fourier' | 'learned' | undefined;
  /** Length of the time embedding, 1 to 65,536; default null: four times the channels of the first level. */
  readonly time_embedding_dim?: number | null | undefined;
  /**
   * What is subtracted from the count of frequencies where their exponents are made, -64 to 64, but not the count itself,
   * half the channels of the first level; default 0.
   */
  readonly freq_shift?: number | undefined;
  /** Cosines before sines in the encoding of the timestep; default true. */
  readonly flip_sin_to_cos?: boolean | undefined;
  /**
   * Blocks on the way down, 1 to 16, from the outside in; the 'Attn' ones hold self-attention, the 'Resnet' ones halve the
   * resolution in a residual block. The 'Skip' ones, of score-SDE, halve it by a filter in a residual block, and add what
   * comes in, made as small, by a convolution; the samples must have 3 channels. Default one 'DownBlock2D' and three
   * 'AttnDownBlock2D'.
   */
  readonly down_block_types?: readonly (typeof DOWN_BLOCKS)[number][] | undefined;
  /**
   * Blocks on the way up, from the inside out, as many. The 'Skip' ones draw an image of 3 channels, to which each adds a part
   * in its resolution. Default three 'AttnUpBlock2D' and one 'UpBlock2D'.
   */
  readonly up_block_types?: readonly (typeof UP_BLOCKS)[number][] | undefined;
  /** Channels of each level, multiples of `norm_num_groups`, each 1 to 16,384; default [224, 448, 672, 896]. */
  readonly block_out_channels?: readonly number[] | undefined;
  /** Residual blocks a level on the way down, 1 to 64; one more on the way up. Default 2. */
  readonly layers_per_block?: number | undefined;
  /** The block in the middle: 'UNetMidBlock2D' (default), or null for none. */
  readonly mid_block_type?: 'UNetMidBlock2D' | null | undefined;
  /** What the outputs of the middle block's residual and attention blocks are divided by, not 0; default 1. */
  readonly mid_block_scale_factor?: number | undefined;
  /** 1 pads all sides of a downsampling convolution (default), 0 only the right and bottom ones. */
  readonly downsample_padding?: 0 | 1 | undefined;
  /** How 'AttnDownBlock2D' halves the size: 'conv' (default, null too, stride 2), or 'resnet', in a residual block. */
  readonly downsample_type?: 'conv' | 'resnet' | null | undefined;
  /** How 'AttnUpBlock2D' doubles the size: 'conv' (default, null too, nearest neighbours, then a convolution), or 'resnet'. */
  readonly upsample_type?: 'conv' | 'resnet' | null | undefined;
  /** Probability that a residual block drops an activation in training, 0 to below 1; default 0. */
  readonly dropout?: number | undefined;
  /** Activation function; 'swish' is another name of 'silu', the default. */
  readonly act_fn?: 'silu' | 'swish' | 'relu' | 'gelu' | 'mish' | undefined;
  /**
   * Channels of one attention head, 1 to those of the level, which has as many heads as fit; null for one head over all
   * channels. Default 8.
   */
  readonly attention_head_dim?: number | null | undefined;
  /**
   * Groups of the group normalisations, 1 to 16,384, a divisor of every level's channels; default 32. 'Skip' blocks have
   * numbers of their own: a quarter of the channels, at most 32. null is the same number everywhere, where all blocks are such.
   */
  readonly norm_num_groups?: number | null | undefined;
  /** Groups of the normalisation before attention in the middle, 1 to 16,384; default null: `norm_num_groups`. */
  readonly attn_norm_num_groups?: number | null | undefined;
  /** Added to the variance by the normalisations, above 0; default 1e-5. */
  readonly norm_eps?: number | undefined;
  /** How a residual block takes the timestep: 'default' adds it, 'scale_shift' scales and shifts by it. */
  readonly resnet_time_scale_shift?: 'default' | 'scale_shift' | undefined;
  /** Self-attention in the middle block; default true. */
  readonly add_attention?: boolean | undefined;
  /**
   * What class labels are: null (default), numbers from 0, each with a vector, where `num_class_embeds` is given; 'timestep',
   * numbers that are encoded as the timestep is; 'identity', vectors of the length of the time embedding, to which they are
   * added.
   */
  readonly class_embed_type?: 'timestep' | 'identity' | null | undefined;
  /** Classes that can be asked for, 1 to 1,000,000; default null: the model knows no classes. */
  readonly num_class_embeds?: number | null | undefined;
  /** Timesteps that a 'learned' time embedding has vectors for, at least 1; default null. */
  readonly num_train_timesteps?: number | null | undefined;
}

const DOWN_BLOCKS = [
  ...(['DownBlock2D', 'AttnDownBlock2D', 'ResnetDownsampleBlock2D'] as const),
  ...(['SkipDownBlock2D', 'AttnSkipDownBlock2D'] as const),
] as const;
const UP_BLOCKS = [
  ...(['UpBlock2D', 'AttnUpBlock2D', 'ResnetUpsampleBlock2D'] as const),
  ...(['SkipUpBlock2D', 'AttnSkipUpBlock2D'] as const),
] as const;

const configSchema = z.strictObject({
  sample_size: z._default(z.nullable(z.union([side, z.tuple([side, side])])), null),
  in_channels: z._default(channelCount, 3),
  out_channels: z._default(channelCount, 3),
  condition_channels: z._default(z.nullable(z.int().check(z.gte(0), z.lte(16_383))), null),
  center_input_sample: z._default(z.boolean(), false),
  time_embedding_type: z._default(z.enum(['positional', 'fourier', 'learned']), 'positional'),
  time_embedding_dim: z._default(z.nullable(z.int().check(z.gte(1), z.lte(65_536))), null),
  freq_shift: z._default(z.number().check(z.gte(-64), z.lte(64)), 0),
  flip_sin_to_cos: z._default(z.boolean(), true),
  down_block_types: z._default(z.array(z.enum(DOWN_BLOCKS)).check(z.minLength(1), z.maxLength(16)), [
    'DownBlock2D',
    'AttnDownBlock2D',
    'AttnDownBlock2D',
    'AttnDownBlock2D',
  ]),
  up_block_types: z._default(z.array(z.enum(UP_BLOCKS)).check(z.minLength(1), z.maxLength(16)), [
    'AttnUpBlock2D',
    'AttnUpBlock2D',
    'AttnUpBlock2D',
    'UpBlock2D',
  ]),
  block_out_channels: z._default(z.array(channelCount).check(z.minLength(1), z.maxLength(16)), [224, 448, 672, 896]),
  layers_per_block: z._default(z.int().check(z.gte(1), z.lte(64)), 2),
  mid_block_type: z._default(z.nullable(z.literal('UNetMidBlock2D')), 'UNetMidBlock2D'),
  mid_block_scale_factor: z._default(z.number().check(z.refine((factor) => factor !== 0, 'must not be 0')), 1),
  downsample_padding: z._default(z.literal([0, 1]), 1),
  downsample_type: z._default(z.nullable(z.enum(['conv', 'resnet'])), 'conv'),
  upsample_type: z._default(z.nullable(z.enum(['conv', 'resnet'])), 'conv'),
  dropout: z._default(z.number().check(z.gte(0), z.lt(1)), 0),
  act_fn: z._default(z.enum(['silu', 'swish', 'relu', 'gelu', 'mish']), 'silu'),
  attention_head_dim: z._default(z.nullable(channelCount), 8),
  norm_num_groups: z._default(z.nullable(channelCount), 32),
  attn_norm_num_groups: z._default(z.nullable(channelCount), null),
  norm_eps: z._default(z.number().check(z.positive()), 1e-5),
  resnet_time_scale_shift: z._default(z.enum(['default', 'scale_shift']), 'default'),
  add_attention: z._default(z.boolean(), true),
  class_embed_type: z._default(z.nullable(z.enum(['timestep', 'identity'])), null),
  num_class_embeds: z._default(z.nullable(z.int().check(z.gte(1), z.lte(1_000_000))), null),
  num_train_timesteps: z._default(z.nullable(z.int().check(z.gte(1))), null),
} satisfies Fields<UNet2DOptions>);

/** The whole configuration, as it is written to `config.json`. */
export type UNet2DConfig = Complete<Omit<UNet2DOptions, 'condition_channels'>> & {
  /** The class, by its name in `models` and in diffusers. */
  readonly _class_name: 'UNet2DModel';
  /** Default: absent unless the option was given, because diffusers would warn of a key that it does not know. */
  readonly condition_channels?: number | undefined;
};

/** @throws {ConfigError} that names each key which is unknown, out of range, or in conflict with another. */
export function parseUNet2DOptions(options: UNet2DOptions): UNet2DConfig {
  const config = parseOptions(configSchema, options, 'UNet2DModel config', ConfigError);
  refuseConflicts(config);
  const { condition_channels, ...others } = config;
  return {
    _class_name: 'UNet2DModel',
    ...others,
    ...(condition_channels === null ? {} : { condition_channels }),
  };
}

/** Channels of the image that is given beside a sample. */
export function conditionChannels({
  in_channels,
  out_channels,
  condition_channels,
}: Pick<UNet2DConfig, 'in_channels' | 'out_channels' | 'condition_channels'>): number {
  return condition_channels ?? Math.max(in_channels - out_channels, 0);
}

/** What `EMAModel.save_pretrained` of diffusers writes into the config of the model that it averages. */
const EMA_STATE = [
  ...['decay', 'min_decay', 'inv_gamma', 'power', 'optimization_step', 'update_after_step', 'use_ema_warmup'],
  ...['collected_params', 'shadow_params'],
];

/**
 * The options in a parsed `config.json`. The first versions of diffusers put `UNetRes` before the names of blocks. A key
 * that no version of the class has is left out, as diffusers does; one warning names it unless it has no effect.
 *
 * @throws {ConfigError} as `configOptions`, and for quantised weights, which are not read.
 */
export function optionsFromJson(json: unknown): UNet2DOptions {
  const present = (value: unknown) =>
    Array.isArray(value)
      ? value.map((item) => (typeof item === 'string' ? item.replace(/^UNetRes/, '') : item))
      : value;
  const { quantization_config = null, ...options } = configOptions(json, 'UNet2DModel');
  if (quantization_config !== null)
    throw new ConfigError(
      'the UNet2DModel has a quantization_config: quantised weights are not read here. Save the model in float32, float16 or bfloat16',
    );
  const known = new Set(Object.keys(configSchema.shape));
  const entries = Object.entries(options);
  warnOfUnknownKeys('UNet2DModel', options, [...known, ...EMA_STATE]);
  return Object.fromEntries(entries.filter(([key]) => known.has(key)).map(([key, value]) => [key, present(value)]));
}

/** Height and width of a sample. @throws {ConfigError} where `sample_size` is null. */
export function sampleSize({ sample_size }: UNet2DConfig): readonly [number, number] {
  if (sample_size === null)
    throw new ConfigError(
      'sample_size is null, and so the model does not know the size of its images: give the option sample_size to pipeline() or the Trainer, or a number in the config',
    );
  return typeof sample_size === 'number' ? [sample_size, sample_size] : sample_size;
}

function refuseConflicts(config: z.output<typeof configSchema>): void {
  const { block_out_channels, down_block_types, up_block_types, attention_head_dim } = config;
  const fail = (reason: string): never => {
    throw new ConfigError(`wrong UNet2DModel config: ${reason}`);
  };
  const levels = block_out_channels.length;
  if (down_block_types.length !== levels || up_block_types.length !== levels)
    fail(
      `down_block_types (${down_block_types.length}), up_block_types (${up_block_types.length}) and block_out_channels (${levels}) must be of one length`,
    );
  refuseSkipConflicts(config, fail);
  const attended = block_out_channels.filter(
    (_, i) =>
      down_block_types[i]?.startsWith('Attn') ||
      up_block_types[levels - 1 - i]?.startsWith('Attn') ||
      (config.mid_block_type !== null && config.add_attention && i === levels - 1),
  );
  for (const channels of attended)
    if (attention_head_dim !== null && channels < attention_head_dim)
      fail(`attention_head_dim ${attention_head_dim} is more than the ${channels} channels of a block`);
  const { time_embedding_type, num_train_timesteps, freq_shift, in_channels, condition_channels } = config;
  if (time_embedding_type === 'learned' && num_train_timesteps === null)
    fail("time_embedding_type 'learned' needs num_train_timesteps");
  if (time_embedding_type === 'positional' && freq_shift === Math.floor((block_out_channels[0] ?? 0) / 2))
    fail(`freq_shift ${freq_shift} is half the channels of the first level: the frequencies would be divided by 0`);
  if (condition_channels !== null && condition_channels >= in_channels)
    fail(`condition_channels ${condition_channels} must be fewer than the ${in_channels} in_channels`);
  const { sample_size } = config;
  const halvings = 2 ** (levels - 1);
  for (const length of sample_size === null ? [] : [sample_size].flat())
    if (length % halvings !== 0)
      fail(`sample_size ${length} must be a multiple of ${halvings}: it is halved ${levels - 1} times`);
}

/** Whether a block hands on an image beside its feature maps. */
export function isSkipBlock(type: string): boolean {
  return type.includes('Skip');
}

/** Combinations that diffusers takes, and then cannot run. */
function refuseSkipConflicts(config: z.output<typeof configSchema>, fail: (reason: string) => never): void {
  const { down_block_types: down, up_block_types: up, in_channels, out_channels, norm_num_groups } = config;
  const last = down.length - 1;
  // The last block down and the last block up neither halve nor double the size, and so hand nothing on.
  const halving = down.slice(0, -1);
  const lastHalving = halving.findLastIndex(isSkipBlock);
  const plain = halving.slice(0, lastHalving + 1).find((type) => !isSkipBlock(type));
  if (plain)
    fail(
      `down_block_types has ${plain} before ${halving[lastHalving]}, whose image it does not make smaller: diffusers cannot run this either. Begin with the Skip blocks`,
    );
  if (lastHalving >= 0 && in_channels !== 3)
    fail(`${halving[lastHalving]} takes images of 3 channels, but in_channels is ${in_channels}`);
  const firstDrawing = up.findIndex((type, i) => isSkipBlock(type) && i < last);
  const after = firstDrawing < 0 ? undefined : up.slice(firstDrawing).find((type) => !isSkipBlock(type));
  if (after)
    fail(
      `up_block_types has ${after} after ${up[firstDrawing]}, whose image it does not enlarge: diffusers cannot run this either. End with the Skip blocks`,
    );
  if (firstDrawing >= 0 && out_channels !== 3)
    fail(`${up[firstDrawing]} draws an image of 3 channels, but out_channels is ${out_channels}`);
  const other = [...down, ...up].find((type) => !isSkipBlock(type));
  if (norm_num_groups === null && other)
    fail(`norm_num_groups is null, but ${other} needs a number: diffusers cannot run this either`);
}
