import { ConfigError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { clip } from '../graph/ops/elementwise.ts';
import { split } from '../graph/ops/shape.ts';
import { parametersFrom } from '../models/model.ts';
import type { ForwardContext } from '../nn/context.ts';
import { Conv2d } from '../nn/layers.ts';
import { type ParameterSpec, parametersOf } from '../nn/parameters.ts';
import { checkMaps, type KlAutoencoder, type LatentScaling } from './autoencoder.ts';
import { Decoder, Encoder } from './blocks.ts';
import {
  type AutoencoderKLConfig,
  type AutoencoderKLOptions,
  klOptionsFromJson,
  parseKLOptions,
  sampleSizeOf,
  scalingOf,
} from './config.ts';

/**
 * The autoencoder of latent diffusion with a normal distribution for each latent (Rombach et al. 2022), as diffusers'
 * `AutoencoderKL`: the same configuration, the same names and shapes of parameters in the same order, the same outputs.
 *
 * @example
 * const autoencoder = new AutoencoderKL({
 *   sample_size: 64,
 *   block_out_channels: [64, 128, 128],
 *   down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D'],
 *   up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D'],
 * });
 * autoencoder.downsampling; // 4
 */
export class AutoencoderKL implements KlAutoencoder {
  readonly kind = 'kl';
  readonly library = 'diffusers';
  readonly config: AutoencoderKLConfig;
  readonly parameters: readonly ParameterSpec[];
  readonly channels: number;
  readonly latentChannels: number;
  readonly downsampling: number;
  readonly sampleSize: readonly [height: number, width: number];
  readonly scaling: LatentScaling;
  private readonly encoder: Encoder;
  private readonly decoder: Decoder;
  private readonly quantConv: Conv2d | undefined;
  private readonly postQuantConv: Conv2d | undefined;

  /**
   * @param weights what training begins from, by parameter name; default: random, as torch initialises its layers.
   * @throws {ConfigError} when an option is unknown, out of range, or in conflict with another, or `weights` are of
   * another model.
   */
  constructor(options: AutoencoderKLOptions = {}, weights?: ReadonlyMap<string, Float32Array>) {
    const config = parseKLOptions(options);
    const latents = config.latent_channels;
    this.config = config;
    this.channels = config.in_channels;
    this.latentChannels = latents;
    this.downsampling = 2 ** (config.block_out_channels.length - 1);
    this.sampleSize = sampleSizeOf(config);
    this.scaling = scalingOf(config);
    this.encoder = new Encoder('encoder', config, 2 * latents);
    this.decoder = new Decoder('decoder', config);
    this.quantConv = config.use_quant_conv ? new Conv2d('quant_conv', 2 * latents, 2 * latents, 1) : undefined;
    this.postQuantConv = config.use_post_quant_conv ? new Conv2d('post_quant_conv', latents, latents, 1) : undefined;
    const parameters = parametersOf([this.encoder, this.decoder, this.quantConv, this.postQuantConv]);
    this.parameters = weights ? parametersFrom({ config, parameters }, weights, ConfigError) : parameters;
  }

  /** Builds the autoencoder of a parsed `config.json`. @throws {ConfigError} as the constructor. */
  static fromConfig(json: unknown): AutoencoderKL {
    return new AutoencoderKL(klOptionsFromJson(json));
  }

  /** See `KlAutoencoder`. @throws {GraphError} when the images have another shape. */
  encode(
    images: Value,
    context: ForwardContext,
  ): {
    /** Of each latent. */
    readonly mean: Value;
    /** The logarithm of its variance. */
    readonly logvar: Value;
  } {
    checkMaps(this, images, { channels: this.channels, what: 'the images', multipleOf: this.downsampling });
    const { layout } = context;
    const encoded = this.encoder.forward(layout.fromImages(images), context);
    const moments = layout.toImages(this.quantConv?.forward(encoded, context) ?? encoded);
    const [mean = moments, logvar = moments] = split(moments, [this.latentChannels, this.latentChannels], 1);
    return { mean, logvar: clip(logvar, -30, 20) };
  }

  /** See `KlAutoencoder`. @throws {GraphError} when the latents have another shape. */
  decode(latents: Value, context: ForwardContext): Value {
    checkMaps(this, latents, { channels: this.latentChannels, what: 'the latents' });
    const { layout } = context;
    const maps = layout.fromImages(latents);
    const converted = this.postQuantConv?.forward(maps, context) ?? maps;
    return layout.toImages(this.decoder.forward(converted, undefined, context));
  }
}
