import { GraphError, InvalidArgumentError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { formatShape } from '../graph/types.ts';
import type { ModelConfig } from '../models/model.ts';
import type { ForwardContext } from '../nn/context.ts';
import type { ParameterSpec } from '../nn/parameters.ts';

/** What an autoencoder of either kind says of itself. */
interface AutoencoderFacts {
  /** What `config.json` holds: `_class_name` and the options. */
  readonly config: ModelConfig;
  /**
   * The Python library that has a class of this name with the same config and state dict; it is written to
   * `model_index.json`. Default `iso_diffusion`, which is this package.
   */
  readonly library?: string | undefined;
  /** In the order of the state dict; a parameter's index is also the index of its initial random stream. */
  readonly parameters: readonly ParameterSpec[];
  /** Channels of the images, in and out. */
  readonly channels: number;
  /** Channels of the latents. */
  readonly latentChannels: number;
  /** How many times smaller the latents are than the images, in both directions; a power of 2. */
  readonly downsampling: number;
  /** [height, width] of the images that it was made for. It encodes others too, of whole multiples of `downsampling`. */
  readonly sampleSize: readonly [height: number, width: number];
  /** How latents are made ready for a diffusion model; see `scaleLatents`. */
  readonly scaling: LatentScaling;
}

/** What makes latents have about mean 0 and variance 1: (latents - shift) x factor, or for each channel its own. */
export interface LatentScaling {
  /** Above 0; 1 leaves latents as they are. */
  readonly factor: number;
  /** 0 where the config has none. Not used where there are `mean` and `std`. */
  readonly shift: number;
  /** Mean of each latent channel, where the config has `latents_mean`. */
  readonly mean?: readonly number[] | undefined;
  /** Standard deviation of each latent channel, where the config has `latents_std`: (latents - mean) x factor / std. */
  readonly std?: readonly number[] | undefined;
}

/** An autoencoder whose encoder gives a normal distribution for each latent (Kingma & Welling 2014). */
export interface KlAutoencoder extends AutoencoderFacts {
  /** The encoder gives means and variances. */
  readonly kind: 'kl';
  /**
   * Adds the encoder to the graph of `images`.
   *
   * @param images [batch, channels, height, width] in [-1, 1].
   * @returns mean and logarithm of the variance, each [batch, latentChannels, height / downsampling, width / downsampling];
   * the latter in [-30, 20].
   */
  encode(
    images: Value,
    context: ForwardContext,
  ): {
    /** Of each latent. */
    readonly mean: Value;
    /** The logarithm of its variance. */
    readonly logvar: Value;
  };
  /**
   * Adds the decoder to the graph of `latents`.
   *
   * @param latents [batch, latentChannels, height, width], not scaled.
   * @returns images [batch, channels, height x downsampling, width x downsampling], about in [-1, 1].
   */
  decode(latents: Value, context: ForwardContext): Value;
}

/** An autoencoder whose decoder takes vectors of a codebook (van den Oord et al. 2017). */
export interface VqAutoencoder extends AutoencoderFacts {
  /** The encoder gives latents, and the decoder takes vectors of a codebook. */
  readonly kind: 'vq';
  /** Vectors of the codebook. */
  readonly codebookSize: number;
  /**
   * Adds the encoder to the graph of `images`.
   *
   * @param images [batch, channels, height, width] in [-1, 1].
   * @returns the latents before they are quantised, which a diffusion model is trained on: [batch, latentChannels,
   * height / downsampling, width / downsampling].
   */
  encode(
    images: Value,
    context: ForwardContext,
  ): {
    /** Before they are quantised. */
    readonly latents: Value;
  };
  /** The nearest vectors of the codebook. @param latents [batch, latentChannels, height, width]. */
  quantize(latents: Value, context: ForwardContext): Quantized;
  /**
   * Adds the decoder to the graph of `latents`, which are quantised first.
   *
   * @param latents [batch, latentChannels, height, width], not scaled; or the indices of `quantize`.
   * @returns images [batch, channels, height x downsampling, width x downsampling], about in [-1, 1].
   */
  decode(latents: Value, context: ForwardContext, options?: VqDecodeOptions): Value;
}

/** How a `VqAutoencoder` decodes. */
export interface VqDecodeOptions {
  /** Whether latents are decoded as they are, because they are of the codebook already. Default false. */
  readonly force_not_quantize?: boolean | undefined;
}

/** Latents and the nearest vectors of the codebook. */
export interface Quantized {
  /** The nearest vectors, [batch, latentChannels, height, width], with the gradient of the latents (straight-through). */
  readonly quantized: Value;
  /** The same numbers up to rounding, with the gradient of the codebook, for its loss. */
  readonly entries: Value;
  /** [batch, height, width], int64: where in the codebook they lie; of vectors at the same distance the first. */
  readonly indices: Value;
}

/** A network that makes images smaller, and large again; `kind` says what the encoder gives. */
export type Autoencoder = KlAutoencoder | VqAutoencoder;

/**
 * Height and width of the latents of images.
 *
 * @throws {InvalidArgumentError} when the images cannot be halved as often as the autoencoder does.
 */
export function latentSize(
  { config, downsampling }: Autoencoder,
  [height, width]: readonly [height: number, width: number],
): readonly [height: number, width: number] {
  for (const side of [height, width])
    if (!Number.isSafeInteger(side) || side < downsampling || side % downsampling !== 0)
      throw new InvalidArgumentError(
        `images of ${height}x${width} pixels do not fit the ${config._class_name}: it makes them ${downsampling} times smaller, so height and width must be multiples of ${downsampling}`,
      );
  return [height / downsampling, width / downsampling];
}

/**
 * @param what the maps, in words.
 * @param multipleOf what height and width must be multiples of; default 1.
 * @throws {GraphError} unless `maps` are [batch, channels, height, width] of such a size.
 */
export function checkMaps(
  { config }: Pick<Autoencoder, 'config'>,
  { shape }: Value,
  {
    channels,
    what,
    multipleOf = 1,
  }: { readonly channels: number; readonly what: string; readonly multipleOf?: number },
): void {
  const [, found, ...sides] = shape;
  const fits = sides.every((side) => typeof side === 'number' && side > 0 && side % multipleOf === 0);
  if (shape.length === 4 && found === channels && fits) return;
  const multiples = multipleOf === 1 ? '' : `, with height and width multiples of ${multipleOf}`;
  throw new GraphError(
    `${config._class_name}: ${what} must be [batch, ${channels}, height, width]${multiples}, but are ${formatShape(shape)}`,
  );
}

/** Images or latents on the host. */
export interface ImageTensor {
  /** Row-major. */
  readonly data: Float32Array;
  /** [count, channels, height, width]. */
  readonly shape: readonly [count: number, channels: number, height: number, width: number];
}

/** Latents as a diffusion model is trained on them, see `LatentScaling`; a new array. */
export function scaleLatents({ scaling }: Pick<Autoencoder, 'scaling'>, latents: ImageTensor): ImageTensor {
  return mapChannels(scaling, latents, (value, shift, factor) => (value - shift) * factor);
}

/** The way back from `scaleLatents`: latents as the decoder takes them, from those of a diffusion model. */
export function unscaleLatents({ scaling }: Pick<Autoencoder, 'scaling'>, latents: ImageTensor): ImageTensor {
  return mapChannels(scaling, latents, (value, shift, factor) => value / factor + shift);
}

function mapChannels(
  { factor, shift, mean, std }: LatentScaling,
  { data, shape }: ImageTensor,
  map: (value: number, shift: number, factor: number) => number,
): ImageTensor {
  const [, channels, height, width] = shape;
  const mapped = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const channel = Math.floor(i / (height * width)) % channels;
    mapped[i] = map(data[i] ?? 0, mean?.[channel] ?? shift, factor / (std?.[channel] ?? 1));
  }
  return { data: mapped, shape };
}
