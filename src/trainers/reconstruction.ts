import type { AutoencoderSession } from '../autoencoders/session.ts';
import type { ImageSet } from '../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../errors.ts';
import { elementCount, formatShape } from '../graph/types.ts';
import { RandomStream } from '../random/random-stream.ts';
import { imageSamples } from './data/samples.ts';

/** How well an autoencoder gives images back. */
export interface Reconstruction {
  /** Peak signal-to-noise ratio in dB, in the mean over the images; infinite where all come back exactly. */
  readonly psnr: number;
  /** Images that were measured. */
  readonly images: number;
}

/** Pixels that are encoded and decoded at a time. */
const PIXELS_AT_A_TIME = 512 * 512;

/**
 * Encodes images, by their mean where the encoder gives distributions, and decodes them again. The PSNR of an image is
 * 10 log10(2^2 / mean squared error) of its values in [-1, 1], to which the reconstruction is limited: the same as of
 * values in [0, 1].
 *
 * @throws {InvalidArgumentError} when the images do not fit the autoencoder.
 * @example
 * const session = await loadAutoencoder('./runs/autoencoder/autoencoder', { device: 'cpu' });
 * const { psnr } = await measureReconstruction(session, await loadImages('./photos/test', { resolution: 64 }));
 */
export async function measureReconstruction(session: AutoencoderSession, images: ImageSet): Promise<Reconstruction> {
  refuseOtherImages(session.autoencoder, images);
  const samples = imageSamples(images, { random_flip: false });
  const [channels = 1, height = 1, width = 1] = samples.sampleShape;
  const size = elementCount(samples.sampleShape);
  const atOnce = Math.max(1, Math.floor(PIXELS_AT_A_TIME / (height * width)));
  // Nothing about these samples is random.
  const stream = new RandomStream(0);
  let sum = 0;
  for (let first = 0; first < samples.count; first += atOnce) {
    const count = Math.min(atOnce, samples.count - first);
    const data = new Float32Array(count * size);
    for (let i = 0; i < count; i++) samples.fill(first + i, data.subarray(i * size, (i + 1) * size), stream);
    const latents = await session.encode({ data, shape: [count, channels, height, width] });
    const { data: decoded } = await session.decode(latents);
    for (let i = 0; i < count; i++) sum += psnrOf(data, decoded, i * size, (i + 1) * size);
  }
  return { psnr: sum / samples.count, images: samples.count };
}

function psnrOf(wanted: Float32Array, found: Float32Array, begin: number, end: number): number {
  let squares = 0;
  for (let i = begin; i < end; i++)
    squares += ((wanted[i] as number) - Math.max(-1, Math.min(1, found[i] as number))) ** 2;
  return 10 * Math.log10(4 / (squares / (end - begin)));
}

/** @throws {InvalidArgumentError} when images have other channels than an autoencoder. */
export function refuseOtherImages(
  { channels, config }: { readonly channels: number; readonly config: { readonly _class_name: string } },
  images: Pick<ImageSet, 'name' | 'channels' | 'height' | 'width'>,
): void {
  if (images.channels === channels) return;
  const shape = formatShape([images.channels, images.height, images.width]);
  throw new InvalidArgumentError(
    `the data set '${images.name}' has images of shape ${shape}, but the ${config._class_name} takes ${channels} channels: load the images with channels: ${channels}, or make the autoencoder with in_channels: ${images.channels} and out_channels: ${images.channels}`,
  );
}
