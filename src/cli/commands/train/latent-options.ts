import { type Autoencoder, latentSize } from '../../../autoencoders/autoencoder.ts';
import type { AutoencoderSession } from '../../../autoencoders/session.ts';
import { InvalidArgumentError } from '../../../errors.ts';
import { type Progress, progressBar } from '../../../terminal/progress.ts';
import type { TrainerOptions } from '../../../trainers/trainer-options.ts';
import type { TrainingArguments } from '../../../trainers/training-arguments.ts';
import * as z from '../../../zod.ts';
import { givenFlag, grouped, option, type Settings } from '../../options/command-options.ts';
import { downloadBar } from '../../ui/progress.ts';

export const latentOptions = grouped('Latent diffusion:', {
  autoencoder: option(
    '--autoencoder <folder|hub-id>',
    z.optional(z.string()),
    'train on the latents of this autoencoder (default: on the images; with --init-from, as that model was trained)',
  ),
  posterior: option(
    '--posterior <name>',
    z.optional(z.enum(['sample', 'mean'])),
    "what is taken of a KL encoder's distribution: sample (default), or mean",
  ),
  scaling_factor: option(
    '--scaling-factor <value>',
    z.optional(z.union([z.number(), z.literal('measured')], "must be a number above 0, or 'measured'")),
    'what latents are multiplied by (default: measured, 1 / their standard deviation; with --init-from, as there)',
  ),
});

type LatentSettings = Settings<typeof latentOptions> & { readonly cache_dir: string | undefined };

/** @throws {InvalidArgumentError} when an option has no effect, because there is no autoencoder. */
export function refuseWithoutAutoencoder(settings: LatentSettings): void {
  const unused = givenFlag(settings, ['posterior', 'scaling_factor']);
  if (unused !== undefined)
    throw new InvalidArgumentError(`option ${unused} is for latent diffusion: name the autoencoder with --autoencoder`);
}

/** Opens the autoencoder; a folder of a pipeline is opened at the component that it has. */
export async function openAutoencoder(
  name: string,
  { device, device_id }: TrainingArguments,
): Promise<AutoencoderSession> {
  const { loadAutoencoder } = await import('../../../autoencoders/open-autoencoder.ts');
  return downloadBar((progress_callback) => loadAutoencoder(name, { device, device_id, progress_callback }));
}

/** What a trainer is told, beside the autoencoder; a bar shows how far the images are encoded. */
export function latentsFor(
  { posterior, scaling_factor, cache_dir }: LatentSettings,
  session: AutoencoderSession,
  isOwn: boolean,
): Pick<TrainerOptions, 'autoencoder' | 'latents'> {
  let bar: Progress | undefined;
  // A model that was trained on latents goes on with those that it knows.
  const factor = scaling_factor ?? (isOwn ? session.autoencoder.scaling.factor : undefined);
  return {
    autoencoder: session,
    latents: {
      posterior,
      scaling_factor: factor,
      cache_dir,
      on_progress: ({ done, total }) => {
        bar ??= progressBar('latents', total);
        bar.update(done);
        if (done === total) bar.stop();
      },
    },
  };
}

/** The size of the latents of images. */
export function latentFormat(
  autoencoder: Autoencoder,
  images: { readonly height: number; readonly width: number },
): { readonly channels: number; readonly height: number; readonly width: number } {
  const [height, width] = latentSize(autoencoder, [images.height, images.width]);
  return { channels: autoencoder.latentChannels, height, width };
}

/** The size of the images for a model, whose own is that of latents where there is an autoencoder; undefined: any. */
export function imageFormat<Model extends ModelFormat>(
  { resolution, channels }: Model,
  autoencoder: Autoencoder | undefined,
): ModelFormat {
  if (!autoencoder) return { resolution, channels };
  const { downsampling, sampleSize } = autoencoder;
  const [height, width] = typeof resolution === 'object' ? resolution : [resolution, resolution];
  const ofModel =
    height === undefined || width === undefined ? undefined : [height * downsampling, width * downsampling];
  return { resolution: ofModel ? [ofModel[0] ?? 0, ofModel[1] ?? 0] : sampleSize, channels: autoencoder.channels };
}

interface ModelFormat {
  readonly resolution: number | readonly [height: number, width: number] | undefined;
  readonly channels: number | undefined;
}
