import path from 'node:path';
import {
  type Autoencoder,
  AutoencoderKL,
  type AutoencoderKLOptions,
  autoencoderFromConfig,
  VQModel,
} from '../../autoencoders/index.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { isFolder } from '../../files/regular-file.ts';
import { pipelineFiles } from '../../hub/pipeline-folder.ts';
import * as z from '../../zod.ts';
import { didYouMean, grouped, jsonObject, option, type Settings } from './command-options.ts';

/** Channels of each level: the last is as many times smaller as 2 to the power of the levels before it. */
const PRESETS = {
  /** A quarter of the side, 1 million parameters: for a cpu. */
  small: { block_out_channels: [32, 64, 64], layers_per_block: 1, norm_num_groups: 16 },
  /** A quarter of the side, 5 million. */
  medium: { block_out_channels: [64, 128, 128], layers_per_block: 2, norm_num_groups: 32 },
  /** The autoencoder of Stable Diffusion: an eighth of the side, 84 million. */
  sd: { block_out_channels: [128, 256, 512, 512], layers_per_block: 2, norm_num_groups: 32 },
} satisfies Record<string, AutoencoderKLOptions>;
const NAMES = Object.keys(PRESETS);

export const autoencoderOptions = grouped('Autoencoder:', {
  model: option(
    '--model <name|config.json>',
    z._default(z.string(), 'small'),
    'small or medium (a quarter of the side), sd (an eighth); or the config.json of an autoencoder, or its folder',
  ),
  kind: option(
    '--kind <name>',
    z.optional(z.enum(['kl', 'vq'])),
    'of a preset: kl (default) has a distribution for each latent, vq a codebook',
  ),
  latent_channels: option(
    '--latent-channels <count>',
    z.optional(z.number()),
    'of a preset: channels of the latents (default: kl 4, vq 3)',
  ),
  num_vq_embeddings: option(
    '--num-vq-embeddings <count>',
    z.optional(z.number()),
    'of a preset with --kind vq: vectors of the codebook (default: 256)',
  ),
});

/** The config.json that `--model` names; undefined for a preset. @throws {InvalidArgumentError} when it is neither. */
export async function autoencoderConfig({
  model,
}: Pick<Settings<typeof autoencoderOptions>, 'model'>): Promise<Record<string, unknown> | undefined> {
  if (isPreset(model)) return undefined;
  if (model.toLowerCase().endsWith('.json')) return jsonObject('--model', model);
  if (await isFolder(model)) return jsonObject('--model', path.join(model, pipelineFiles.config));
  throw new InvalidArgumentError(
    `--model '${model}' is unknown: use ${NAMES.join(', ')}, a config.json or the folder of one.${didYouMean(model, NAMES)}`,
  );
}

/**
 * The autoencoder of the config, or that of the preset for images of this size.
 *
 * @throws {ConfigError} when the size does not fit, or the config is wrong.
 * @throws {InvalidArgumentError} when a codebook is asked for without `--kind vq`.
 */
export function newAutoencoder(
  config: Record<string, unknown> | undefined,
  { model, kind = 'kl', latent_channels, num_vq_embeddings }: Settings<typeof autoencoderOptions>,
  { channels, height, width }: { readonly channels: number; readonly height: number; readonly width: number },
): Autoencoder {
  if (config) return autoencoderFromConfig(config);
  if (num_vq_embeddings !== undefined && kind === 'kl')
    throw new InvalidArgumentError('--num-vq-embeddings belongs to --kind vq: leave one of them out');
  const preset = isPreset(model) ? PRESETS[model] : PRESETS.small;
  const options = {
    ...preset,
    down_block_types: preset.block_out_channels.map(() => 'DownEncoderBlock2D' as const),
    up_block_types: preset.block_out_channels.map(() => 'UpDecoderBlock2D' as const),
    in_channels: channels,
    out_channels: channels,
    sample_size: height === width ? height : ([height, width] as const),
    latent_channels,
  };
  return kind === 'kl' ? new AutoencoderKL(options) : new VQModel({ ...options, num_vq_embeddings });
}

function isPreset(name: string): name is keyof typeof PRESETS {
  return Object.hasOwn(PRESETS, name);
}
