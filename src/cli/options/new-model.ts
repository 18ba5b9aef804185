import path from 'node:path';
import { InvalidArgumentError } from '../../errors.ts';
import { isFolder } from '../../files/regular-file.ts';
import { downloadFile } from '../../hub/download.ts';
import { pipelineFiles } from '../../hub/pipeline-folder.ts';
import { HUB_ID } from '../../hub/repository.ts';
import {
  UNET_2D_PRESETS,
  UNet2DModel,
  type UNet2DOptions,
  type UNet2DPreset,
  unet2DPreset,
} from '../../models/index.ts';
import { models } from '../../models/registry.ts';
import { conditionChannels, optionsFromJson } from '../../models/unet-2d/config.ts';
import * as z from '../../zod.ts';
import { didYouMean, grouped, jsonObject, jsonSchema, option, type Settings } from './command-options.ts';

export const modelOptions = grouped('Model:', {
  model: option(
    '--model <name|config.json>',
    z.optional(z.string()),
    `images: small (default), ddpm-cifar10, ddpm-64, default (diffusers' script); or the config.json of a model, its folder or Hub id; or a registered class: ${models.names().join(', ')}`,
  ),
  model_config: option(
    '--model-config <json|file.json>',
    z.optional(jsonSchema),
    'the config of the class that --model names',
  ),
});

/**
 * The config that `--model` and `--model-config` give; undefined for a preset and without `--model`.
 *
 * @throws {InvalidArgumentError} when the name is neither a preset nor a registered class; names the nearest one.
 * @throws {ConfigError} when a file cannot be read or does not hold an object. The model checks the values.
 */
export async function modelConfig({
  model,
  model_config,
}: Settings<typeof modelOptions>): Promise<Record<string, unknown> | undefined> {
  const file = await configFile(model);
  if (model_config !== undefined && (model === undefined || file !== undefined || isPreset(model)))
    throw new InvalidArgumentError('--model-config is the config of a class: name the class with --model');
  if (model === undefined || isPreset(model)) return undefined;
  if (file !== undefined) return { _class_name: 'UNet2DModel', ...(await jsonObject('--model', file)) };
  if (models.find(model) === undefined) {
    const known = [...UNET_2D_PRESETS, ...models.names()];
    throw new InvalidArgumentError(
      `--model '${model}' is unknown: use ${known.join(', ')}, a config.json, or register your own with --import.${didYouMean(model, known)} (A saved model is trained further with --init-from)`,
    );
  }
  return { ...(await jsonObject('--model-config', model_config)), _class_name: model };
}

/** The config.json that `--model` names: itself, the one in its folder, or that of a model of the Hub. */
async function configFile(model: string | undefined): Promise<string | undefined> {
  if (model === undefined || isPreset(model) || models.find(model) !== undefined) return undefined;
  if (model.toLowerCase().endsWith('.json')) return model;
  if (await isFolder(model)) return path.join(model, pipelineFiles.config);
  return HUB_ID.test(model) ? downloadFile(model, pipelineFiles.config) : undefined;
}

export function isPreset(name: string): name is UNet2DPreset {
  return UNET_2D_PRESETS.some((preset) => preset === name);
}

/** A preset's options, to be fitted to the images, or those of a config as they are. */
export interface ChosenUNet {
  readonly options: UNet2DOptions;
  /** Side of the images where `--resolution` was not given; undefined: the data set's. */
  readonly resolution: number | readonly [number, number] | undefined;
  readonly channels: number | undefined;
  readonly fromConfig: boolean;
}

/** @throws {ConfigError} when the config is wrong. */
export function chosenUNet(preset: UNet2DPreset, config: Readonly<Record<string, unknown>> | undefined): ChosenUNet {
  if (config !== undefined) {
    const options = optionsFromJson(config);
    const { sample_size, in_channels, out_channels = in_channels, condition_channels } = options;
    const channels =
      in_channels === undefined || out_channels === undefined
        ? undefined
        : in_channels -
          conditionChannels({ in_channels, out_channels, condition_channels: condition_channels ?? undefined });
    return { options, resolution: sample_size ?? undefined, channels, fromConfig: true };
  }
  const options = unet2DPreset(preset);
  // 'small' fits every size; the others are made for one.
  const resolution = preset === 'small' ? undefined : (options.sample_size ?? undefined);
  return { options, resolution, channels: undefined, fromConfig: false };
}

/** Changes to the chosen U-Net; undefined leaves it as it is. */
export interface UNetWishes {
  readonly classes: number | undefined;
  readonly dropout: number | undefined;
  readonly learn_variance: boolean | undefined;
  /** Channels of an image that it is given beside the sample; 0 for none. */
  readonly condition: number;
}

/**
 * The chosen U-Net for images, or latents, of this size.
 *
 * @throws {ConfigError} when they do not fit.
 * @throws {InvalidArgumentError} when its config has channels for another kind of variance than was asked for.
 */
export function unetFor(
  { options, fromConfig }: ChosenUNet,
  { channels, height, width }: { readonly channels: number; readonly height: number; readonly width: number },
  { classes, dropout, learn_variance, condition }: UNetWishes,
): UNet2DModel {
  const out_channels = learn_variance ? 2 * channels : channels;
  if (learn_variance && fromConfig && (options.out_channels ?? out_channels) !== out_channels)
    throw new InvalidArgumentError(
      `--learn-variance needs out_channels ${out_channels} for samples of ${channels} channels, but the config of --model has ${options.out_channels}: change it there, or leave it out`,
    );
  const ofImages: UNet2DOptions = {
    sample_size: height === width ? height : [height, width],
    in_channels: channels + condition,
    out_channels,
    // With a learned variance the channels do not tell of it.
    ...(learn_variance && condition > 0 ? { condition_channels: condition } : {}),
  };
  return new UNet2DModel({
    ...(fromConfig ? { ...ofImages, ...options } : { ...options, ...ofImages }),
    ...(classes === undefined ? {} : { num_class_embeds: classes }),
    ...(dropout === undefined ? {} : { dropout }),
  });
}
