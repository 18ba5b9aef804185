// What a model draws: images themselves, or latents, which an autoencoder turns into images.

import type { Autoencoder } from '../autoencoders/autoencoder.ts';
import type { AutoencoderSession } from '../autoencoders/session.ts';
import { ConfigError } from '../errors.ts';
import { elementCount } from '../graph/types.ts';
import { deviceOptions } from '../runtime/device.ts';
import type { Edit } from './editing/edit.ts';
import type { ImagePipelineOptions, LoadedPipeline } from './load.ts';

type ImageShape = readonly [channels: number, height: number, width: number];

/** The way between samples of a model, in model units, and images in [-1, 1]. Arrays are row-major, with a batch axis. */
export interface ImageSpace {
  /** [channels, height, width] of an image. */
  readonly imageShape: readonly number[];
  /** What decodes, where the model draws latents. */
  readonly autoencoder: AutoencoderSession | undefined;
  decode(samples: Float32Array, signal?: AbortSignal): Promise<Float32Array>;
  encode(images: Float32Array, signal?: AbortSignal): Promise<Float32Array>;
  /** An edit of images as one of samples. */
  encodeEdit(edit: Edit, signal?: AbortSignal): Promise<Edit>;
}

/** Of a model that draws images themselves. */
function pixelSpace(imageShape: readonly number[]): ImageSpace {
  const itself = async <Values>(values: Values) => values;
  return { imageShape, autoencoder: undefined, decode: itself, encode: itself, encodeEdit: itself };
}

/**
 * The space of a loaded model.
 *
 * @throws {ConfigError} when its autoencoder does not fit it, and the errors of `loadAutoencoder`.
 */
export async function openImageSpace(
  { model, autoencoder }: Pick<LoadedPipeline, 'model' | 'autoencoder'>,
  { variant, tiling }: ImagePipelineOptions,
): Promise<ImageSpace> {
  if (autoencoder === undefined) return pixelSpace(model.sampleShape);
  // A pipeline without one does not load what runs it.
  const { loadAutoencoder } = await import('../autoencoders/open-autoencoder.ts');
  const session = await loadAutoencoder(autoencoder, { ...deviceOptions(model.device), variant, tiling });
  try {
    return latentSpace(session, model.sampleShape);
  } catch (error) {
    await session.dispose();
    throw error;
  }
}

/**
 * Of a model that draws latents, as diffusers' LDMPipeline decodes them.
 *
 * @param sampleShape of the model.
 * @throws {ConfigError} when the autoencoder does not decode such samples.
 */
function latentSpace(session: AutoencoderSession, sampleShape: readonly number[]): ImageSpace {
  const { autoencoder } = session;
  const latentShape = asImageShape(sampleShape);
  const { channels, latentChannels, downsampling, config } = autoencoder;
  if (latentShape[0] !== latentChannels)
    throw new ConfigError(
      `the U-Net draws samples of shape [${sampleShape.join(', ')}], but the ${config._class_name} decodes latents of ${latentChannels} channels: the two are not of one pipeline`,
    );
  const imageShape: ImageShape = [channels, latentShape[1] * downsampling, latentShape[2] * downsampling];
  const encode = async (images: Float32Array, signal?: AbortSignal) => {
    signal?.throwIfAborted();
    const count = images.length / elementCount(imageShape);
    return session.scale(await session.encode({ data: images, shape: [count, ...imageShape] })).data;
  };
  return {
    imageShape,
    autoencoder: session,
    encode,
    decode: async (samples, signal) => {
      signal?.throwIfAborted();
      const count = samples.length / elementCount(latentShape);
      const { data } = await session.decode(session.unscale({ data: samples, shape: [count, ...latentShape] }));
      return data;
    },
    encodeEdit: async (edit, signal) => ({
      ...edit,
      samples: await encode(edit.samples, signal),
      mask: edit.mask && latentMask(edit.mask, imageShape, latentShape, autoencoder),
    }),
  };
}

function asImageShape(shape: readonly number[]): ImageShape {
  const [channels = 0, height = 0, width = 0] = shape;
  return [channels, height, width];
}

/** A mask of images as one of latents: of each square of pixels that makes a latent the first, as diffusers resizes masks. */
function latentMask(
  mask: Uint8Array,
  imageShape: ImageShape,
  latentShape: ImageShape,
  { downsampling }: Autoencoder,
): Uint8Array {
  const [, , imageWidth] = imageShape;
  const [channels, height, width] = latentShape;
  const count = mask.length / elementCount(imageShape);
  const result = new Uint8Array(count * elementCount(latentShape));
  let at = 0;
  for (let image = 0; image < count; image++)
    for (let channel = 0; channel < channels; channel++)
      for (let row = 0; row < height; row++)
        for (let column = 0; column < width; column++) {
          const pixel = (row * imageWidth + column) * downsampling;
          result[at++] = mask[image * elementCount(imageShape) + pixel] ?? 0;
        }
  return result;
}
