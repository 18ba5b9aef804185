import { ConfigError } from '../errors.ts';
import { configOptions } from '../models/model.ts';
import { SPATIAL_NORM_GROUPS } from '../nn/spatial-norm.ts';
import { type Complete, type Fields, parseOptions, warnOfUnknownKeys } from '../options.ts';
import * as z from '../zod.ts';
import type { LatentScaling } from './autoencoder.ts';

const channelCount = z.int().check(z.gte(1), z.lte(16_384));
const side = z.int().check(z.gte(1), z.lte(8192));
const DOWN_BLOCKS = ['DownEncoderBlock2D', 'AttnDownEncoderBlock2D'] as const;
const UP_BLOCKS = ['UpDecoderBlock2D', 'AttnUpDecoderBlock2D'] as const;

/** Options that `AutoencoderKL` and `VQModel` share: those of diffusers (0.40), with its names and defaults. */
interface AutoencoderOptions {
  /** Channels of the images that are encoded, 1 to 16,384; default 3. */
  readonly in_channels?: number | undefined;
  /** Channels of the images that are decoded, the same number; default 3. */
  readonly out_channels?: number | undefined;
  /**
   * Blocks of the encoder, 1 to 16, from the outside in; all but the last halve the resolution, the 'Attn' ones hold
   * self-attention. Default one 'DownEncoderBlock2D'.
   */
  readonly down_block_types?: readonly (typeof DOWN_BLOCKS)[number][] | undefined;
  /** Blocks of the decoder, as many, from the inside out; all but the last double it. Default one 'UpDecoderBlock2D'. */
  readonly up_block_types?: readonly (typeof UP_BLOCKS)[number][] | undefined;
  /** Channels of each level, multiples of `norm_num_groups`, each 1 to 16,384; default [64]. */
  readonly block_out_channels?: readonly number[] | undefined;
  /** Residual blocks a level of the encoder, 1 to 64; one more in the decoder. Default 1. */
  readonly layers_per_block?: number | undefined;
  /** Activation function of the residual blocks; 'swish' is another name of 'silu', the default. */
  readonly act_fn?: 'silu' | 'swish' | 'relu' | 'gelu' | 'mish' | undefined;
  /** Groups of the group normalisations, 1 to 16,384, a divisor of every level's channels; default 32. */
  readonly norm_num_groups?: number | undefined;
  /**
   * Side, or [height, width], of the images that it is made for, in pixels, 1 to 8192, each a multiple of 2 to the power of
   * (levels - 1). Others are encoded too. Default 32.
   */
  readonly sample_size?: number | readonly [height: number, width: number] | undefined;
  /** What latents are multiplied with for a diffusion model, above 0; default 0.18215. */
  readonly scaling_factor?: number | undefined;
  /** Self-attention in the middle blocks; default true. */
  readonly mid_block_add_attention?: boolean | undefined;
  /**
   * Whether diffusers runs it in float32 even where the pipeline is in float16; default true for `AutoencoderKL` and false
   * for `VQModel`. Here autoencoders always run in float32.
   */
  readonly force_upcast?: boolean | undefined;
}

/** Options of `AutoencoderKL`: those of diffusers' constructor (0.40), with its names and defaults. */
export interface AutoencoderKLOptions extends AutoencoderOptions {
  /** Channels of the latents, 1 to 16,384; default 4. */
  readonly latent_channels?: number | undefined;
  /** What is subtracted from latents before they are scaled; default null: nothing. */
  readonly shift_factor?: number | null | undefined;
  /** The mean of each latent channel, together with `latents_std`; default null. */
  readonly latents_mean?: readonly number[] | null | undefined;
  /** The standard deviation of each latent channel, each above 0; default null. */
  readonly latents_std?: readonly number[] | null | undefined;
  /** A 1x1 convolution behind the encoder; default true. */
  readonly use_quant_conv?: boolean | undefined;
  /** A 1x1 convolution before the decoder; default true. */
  readonly use_post_quant_conv?: boolean | undefined;
}

/** Options of `VQModel`: those of diffusers' constructor (0.40), with its names and defaults. */
export interface VQModelOptions extends AutoencoderOptions {
  /** Channels between the encoder, the codebook and the decoder, 1 to 16,384; default 3. */
  readonly latent_channels?: number | undefined;
  /** Vectors of the codebook, 1 to 1,000,000; default 256. */
  readonly num_vq_embeddings?: number | undefined;
  /** Length of the vectors, which is the channels of the latents, 1 to 16,384; default null: `latent_channels`. */
  readonly vq_embed_dim?: number | null | undefined;
  /** Norms of the decoder: 'group' (default), or 'spatial', scaled and shifted by the latents, in 32 groups. */
  readonly norm_type?: 'group' | 'spatial' | undefined;
  /**
   * Whether a decoder that is told not to quantise takes the indices of the codebook; default false. Here it takes indices
   * whatever this says.
   */
  readonly lookup_from_codebook?: boolean | undefined;
}

const shared = {
  in_channels: z._default(channelCount, 3),
  out_channels: z._default(channelCount, 3),
  down_block_types: z._default(z.array(z.enum(DOWN_BLOCKS)).check(z.minLength(1), z.maxLength(16)), [
    'DownEncoderBlock2D',
  ]),
  up_block_types: z._default(z.array(z.enum(UP_BLOCKS)).check(z.minLength(1), z.maxLength(16)), ['UpDecoderBlock2D']),
  block_out_channels: z._default(z.array(channelCount).check(z.minLength(1), z.maxLength(16)), [64]),
  layers_per_block: z._default(z.int().check(z.gte(1), z.lte(64)), 1),
  act_fn: z._default(z.enum(['silu', 'swish', 'relu', 'gelu', 'mish']), 'silu'),
  norm_num_groups: z._default(channelCount, 32),
  sample_size: z._default(z.union([side, z.tuple([side, side])]), 32),
  scaling_factor: z._default(z.number().check(z.positive()), 0.18215),
  mid_block_add_attention: z._default(z.boolean(), true),
};

const klSchema = z.strictObject({
  ...shared,
  latent_channels: z._default(channelCount, 4),
  shift_factor: z._default(z.nullable(z.number()), null),
  latents_mean: z._default(z.nullable(z.array(z.number()).check(z.maxLength(16_384))), null),
  latents_std: z._default(z.nullable(z.array(z.number().check(z.positive())).check(z.maxLength(16_384))), null),
  force_upcast: z._default(z.boolean(), true),
  use_quant_conv: z._default(z.boolean(), true),
  use_post_quant_conv: z._default(z.boolean(), true),
} satisfies Fields<AutoencoderKLOptions>);

const vqSchema = z.strictObject({
  ...shared,
  latent_channels: z._default(channelCount, 3),
  num_vq_embeddings: z._default(z.int().check(z.gte(1), z.lte(1_000_000)), 256),
  vq_embed_dim: z._default(z.nullable(channelCount), null),
  norm_type: z._default(z.enum(['group', 'spatial']), 'group'),
  lookup_from_codebook: z._default(z.boolean(), false),
  force_upcast: z._default(z.boolean(), false),
} satisfies Fields<VQModelOptions>);

/** The whole configuration, as it is written to `config.json`. */
export type AutoencoderKLConfig = Complete<AutoencoderKLOptions> & {
  /** The class, by its name in `autoencoders` and in diffusers. */
  readonly _class_name: 'AutoencoderKL';
};

/** The whole configuration, as it is written to `config.json`. */
export type VQModelConfig = Complete<VQModelOptions> & {
  /** The class, by its name in `autoencoders` and in diffusers. */
  readonly _class_name: 'VQModel';
};

/** @throws {ConfigError} that names each key which is unknown, out of range, or in conflict with another. */
export function parseKLOptions(options: AutoencoderKLOptions): AutoencoderKLConfig {
  const config = parseOptions(klSchema, options, 'AutoencoderKL config', ConfigError);
  refuseConflicts('AutoencoderKL', config);
  const { latents_mean, latents_std, latent_channels } = config;
  for (const [key, values] of Object.entries({ latents_mean, latents_std }))
    if (values !== null && values.length !== latent_channels)
      fail('AutoencoderKL', `${key} has ${values.length} numbers for ${latent_channels} latent_channels`);
  if ((latents_mean === null) !== (latents_std === null))
    fail('AutoencoderKL', 'latents_mean and latents_std go together, but one of them is null');
  return { _class_name: 'AutoencoderKL', ...config };
}

/** @throws {ConfigError} that names each key which is unknown, out of range, or in conflict with another. */
export function parseVQOptions(options: VQModelOptions): VQModelConfig {
  const config = parseOptions(vqSchema, options, 'VQModel config', ConfigError);
  refuseConflicts('VQModel', config);
  if (config.norm_type === 'spatial') refuseSpatialConflicts(config);
  return { _class_name: 'VQModel', ...config };
}

function refuseSpatialConflicts({
  block_out_channels,
  vq_embed_dim,
  latent_channels,
}: z.output<typeof vqSchema>): void {
  for (const channels of block_out_channels)
    if (channels % SPATIAL_NORM_GROUPS !== 0)
      fail('VQModel', `norm_type 'spatial' needs channels that ${SPATIAL_NORM_GROUPS} divides, not ${channels}`);
  if ((vq_embed_dim ?? latent_channels) !== latent_channels)
    fail(
      'VQModel',
      `norm_type 'spatial' needs a vq_embed_dim of latent_channels, ${latent_channels}, not ${vq_embed_dim}`,
    );
}

/** The options in the parsed `config.json` of an `AutoencoderKL`. @throws {ConfigError} as `configOptions`. */
export function klOptionsFromJson(json: unknown): AutoencoderKLOptions {
  return knownOptions('AutoencoderKL', json, Object.keys(klSchema.shape));
}

/** The options in the parsed `config.json` of a `VQModel`. @throws {ConfigError} as `configOptions`. */
export function vqOptionsFromJson(json: unknown): VQModelOptions {
  return knownOptions('VQModel', json, Object.keys(vqSchema.shape));
}

/** A key that no version of the class has is left out, as diffusers does; one warning names it unless it has no effect. */
function knownOptions(className: string, json: unknown, known: readonly string[]): Record<string, unknown> {
  const { quantization_config = null, ...options } = configOptions(json, className);
  if (quantization_config !== null)
    fail(
      className,
      'it has a quantization_config, and quantised weights are not read here: save the model in float32, float16 or bfloat16',
    );
  warnOfUnknownKeys(className, options, known);
  return Object.fromEntries(Object.entries(options).filter(([key]) => known.includes(key)));
}

/** Height and width of the images that an autoencoder is made for. */
export function sampleSizeOf({ sample_size }: AutoencoderKLConfig | VQModelConfig): readonly [number, number] {
  return typeof sample_size === 'number' ? [sample_size, sample_size] : sample_size;
}

/** The scaling that a config asks for. */
export function scalingOf(config: AutoencoderKLConfig | VQModelConfig): LatentScaling {
  if (config._class_name === 'VQModel') return { factor: config.scaling_factor, shift: 0 };
  const { scaling_factor, shift_factor, latents_mean, latents_std } = config;
  return {
    factor: scaling_factor,
    shift: shift_factor ?? 0,
    mean: latents_mean ?? undefined,
    std: latents_std ?? undefined,
  };
}

function refuseConflicts(className: string, config: z.output<typeof klSchema> | z.output<typeof vqSchema>): void {
  const { block_out_channels, down_block_types, up_block_types, norm_num_groups, sample_size } = config;
  const levels = block_out_channels.length;
  if (down_block_types.length !== levels || up_block_types.length !== levels)
    fail(
      className,
      `down_block_types (${down_block_types.length}), up_block_types (${up_block_types.length}) and block_out_channels (${levels}) must be of one length`,
    );
  if (config.in_channels !== config.out_channels)
    fail(
      className,
      `in_channels is ${config.in_channels} and out_channels ${config.out_channels}: an autoencoder gives images of the channels that it takes`,
    );
  for (const channels of block_out_channels)
    if (channels % norm_num_groups !== 0)
      fail(className, `norm_num_groups ${norm_num_groups} does not divide the ${channels} channels of a block`);
  const halvings = 2 ** (levels - 1);
  for (const length of [sample_size].flat())
    if (length % halvings !== 0)
      fail(className, `sample_size ${length} must be a multiple of ${halvings}: it is halved ${levels - 1} times`);
}

function fail(className: string, reason: string): never {
  throw new ConfigError(`wrong ${className} config: ${reason}`);
}
