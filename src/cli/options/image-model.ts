import { z } from 'zod';
import type { ImageSet } from '../../datasets/index.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { readJsonFile } from '../../files/json.ts';
import {
  UNET_2D_PRESETS,
  UNet2DModel,
  type UNet2DOptions,
  type UNet2DPreset,
  unet2DPreset,
} from '../../models/index.ts';
import { optionsFromJson } from '../../models/unet-2d/config.ts';
import { nearestName } from '../../registry.ts';

/** What `--model` names: a preset's options, to be fitted to the images, or those of a config file as they are. */
export interface ChosenUNet {
  readonly options: UNet2DOptions;
  /** Side of the images where `--resolution` was not given; undefined: the data set's. */
  readonly resolution: number | readonly [number, number] | undefined;
  readonly channels: number | undefined;
  readonly fromFile: boolean;
}

/**
 * @param name a preset's name, or the path of a UNet2DModel's config.json.
 * @throws {InvalidArgumentError} when it is neither; names the nearest preset.
 * @throws {ConfigError} when the file cannot be read or is no object. Its values are checked with the model.
 */
export async function chosenUNet(name: string): Promise<ChosenUNet> {
  if (name.toLowerCase().endsWith('.json')) {
    const json = await readJsonFile(name, z.record(z.string(), z.unknown()));
    const options = optionsFromJson({ _class_name: 'UNet2DModel', ...json });
    const { sample_size, in_channels } = options;
    return { options, resolution: sample_size ?? undefined, channels: in_channels, fromFile: true };
  }
  if (!UNET_2D_PRESETS.some((preset) => preset === name)) {
    const near = nearestName(name, UNET_2D_PRESETS);
    throw new InvalidArgumentError(
      `--model '${name}' is unknown: use ${UNET_2D_PRESETS.join(', ')}, or a config.json${near ? `. Did you mean '${near}'?` : ''} (A saved model is trained further with --init-from)`,
    );
  }
  const options = unet2DPreset(name as UNet2DPreset);
  // The small one fits every size, the others were made for theirs.
  const resolution = name === 'small' ? undefined : (options.sample_size ?? undefined);
  return { options, resolution, channels: undefined, fromFile: false };
}

/** What flags ask of a new U-Net; what is undefined stays as the chosen one has it. */
export interface UNetWishes {
  readonly classes: number | undefined;
  readonly dropout: number | undefined;
  readonly learn_variance: boolean | undefined;
}

/**
 * The chosen U-Net for these images.
 *
 * @throws {ConfigError} when they do not fit.
 * @throws {InvalidArgumentError} when its config file has channels for another kind of variance than was asked for.
 */
export function unetFor(
  { options, fromFile }: ChosenUNet,
  { channels, height, width }: ImageSet,
  { classes, dropout, learn_variance }: UNetWishes,
): UNet2DModel {
  const out_channels = learn_variance ? 2 * channels : channels;
  if (learn_variance && fromFile && (options.out_channels ?? out_channels) !== out_channels)
    throw new InvalidArgumentError(
      `--learn-variance needs out_channels ${out_channels} for images of ${channels} channels, but the config file of --model has ${options.out_channels}: change it there, or leave it out`,
    );
  const ofImages: UNet2DOptions = {
    sample_size: height === width ? height : [height, width],
    in_channels: channels,
    out_channels,
  };
  return new UNet2DModel({
    ...(fromFile ? { ...ofImages, ...options } : { ...options, ...ofImages }),
    ...(classes === undefined ? {} : { num_class_embeds: classes }),
    ...(dropout === undefined ? {} : { dropout }),
  });
}
