import { ConfigError, GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { add, mul, square, stopGradient, sub, widened } from '../graph/ops/elementwise.ts';
import { gather } from '../graph/ops/indexing.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { argMin, reduceSum } from '../graph/ops/reduce.ts';
import { transpose } from '../graph/ops/shape.ts';
import { scalarLike } from '../graph/registry.ts';
import { formatShape, isFloat } from '../graph/types.ts';
import { parametersFrom } from '../models/model.ts';
import type { ForwardContext } from '../nn/context.ts';
import { Conv2d } from '../nn/layers.ts';
import { type ParameterSpec, parametersOf, uniformByFanIn } from '../nn/parameters.ts';
import {
  checkMaps,
  type LatentScaling,
  type Quantized,
  type VqAutoencoder,
  type VqDecodeOptions,
} from './autoencoder.ts';
import { Decoder, Encoder } from './blocks.ts';
import {
  parseVQOptions,
  sampleSizeOf,
  scalingOf,
  type VQModelConfig,
  type VQModelOptions,
  vqOptionsFromJson,
} from './config.ts';

const CODEBOOK = 'quantize.embedding.weight';

/**
 * The autoencoder of latent diffusion with a codebook (van den Oord et al. 2017, Rombach et al. 2022), as diffusers'
 * `VQModel`: the same configuration, the same names and shapes of parameters in the same order, the same outputs.
 *
 * @example
 * const autoencoder = new VQModel({ num_vq_embeddings: 8192, block_out_channels: [128] });
 */
export class VQModel implements VqAutoencoder {
  readonly kind = 'vq';
  readonly library = 'diffusers';
  readonly config: VQModelConfig;
  readonly parameters: readonly ParameterSpec[];
  readonly channels: number;
  readonly latentChannels: number;
  readonly codebookSize: number;
  readonly downsampling: number;
  readonly sampleSize: readonly [height: number, width: number];
  readonly scaling: LatentScaling;
  private readonly encoder: Encoder;
  private readonly decoder: Decoder;
  private readonly quantConv: Conv2d;
  private readonly postQuantConv: Conv2d;

  /**
   * @param weights what training begins from, by parameter name; default: random, as diffusers initialises its layers.
   * @throws {ConfigError} when an option is unknown, out of range, or in conflict with another, or `weights` are of
   * another model.
   */
  constructor(options: VQModelOptions = {}, weights?: ReadonlyMap<string, Float32Array>) {
    const config = parseVQOptions(options);
    const { latent_channels, num_vq_embeddings } = config;
    const length = config.vq_embed_dim ?? latent_channels;
    this.config = config;
    this.channels = config.in_channels;
    this.latentChannels = length;
    this.codebookSize = num_vq_embeddings;
    this.downsampling = 2 ** (config.block_out_channels.length - 1);
    this.sampleSize = sampleSizeOf(config);
    this.scaling = scalingOf(config);
    this.encoder = new Encoder('encoder', config, latent_channels);
    this.quantConv = new Conv2d('quant_conv', latent_channels, length, 1);
    this.postQuantConv = new Conv2d('post_quant_conv', length, latent_channels, 1);
    this.decoder = new Decoder('decoder', config, config.norm_type === 'spatial' ? length : undefined);
    // Uniform in +-1 / num_vq_embeddings.
    const init = uniformByFanIn(num_vq_embeddings ** 2);
    const codebook = { parameters: [{ name: CODEBOOK, shape: [num_vq_embeddings, length], init }] };
    const parameters = parametersOf([this.encoder, this.quantConv, codebook, this.postQuantConv, this.decoder]);
    this.parameters = weights ? parametersFrom({ config, parameters }, weights, ConfigError) : parameters;
  }

  /** Builds the autoencoder of a parsed `config.json`. @throws {ConfigError} as the constructor. */
  static fromConfig(json: unknown): VQModel {
    return new VQModel(vqOptionsFromJson(json));
  }

  /** See `VqAutoencoder`. @throws {GraphError} when the images have another shape. */
  encode(
    images: Value,
    context: ForwardContext,
  ): {
    /** Before they are quantised. */
    readonly latents: Value;
  } {
    checkMaps(this, images, { channels: this.channels, what: 'the images', multipleOf: this.downsampling });
    const { layout } = context;
    const encoded = this.encoder.forward(layout.fromImages(images), context);
    return { latents: layout.toImages(this.quantConv.forward(encoded, context)) };
  }

  /** See `VqAutoencoder`. @throws {GraphError} when the latents have another shape. */
  quantize(latents: Value, context: ForwardContext): Quantized {
    checkMaps(this, latents, { channels: this.latentChannels, what: 'the latents' });
    const codebook = stopGradient(widened(context.parameter(CODEBOOK)));
    const vectors = transpose(widened(stopGradient(latents)), [0, 2, 3, 1]);
    // |z - e|^2 without |z|^2, which is the same for all e.
    const products = matmul(vectors, transpose(codebook, [1, 0]));
    const distances = sub(reduceSum(square(codebook), [1]), mul(products, scalarLike(products, 2)));
    const indices = argMin(distances, 3);
    const entries = this.entriesAt(indices, context);
    return { quantized: add(latents, stopGradient(sub(entries, latents))), entries, indices };
  }

  /** See `VqAutoencoder`. @throws {GraphError} when the latents have another shape. */
  decode(latents: Value, context: ForwardContext, { force_not_quantize = false }: VqDecodeOptions = {}): Value {
    const { layout } = context;
    const maps = layout.fromImages(this.vectorsOf(latents, context, force_not_quantize));
    return layout.toImages(this.decoder.forward(this.postQuantConv.forward(maps, context), maps, context));
  }

  private vectorsOf(latents: Value, context: ForwardContext, areVectors: boolean): Value {
    if (!isFloat(latents.dtype)) return this.entriesAt(latents, context);
    if (!areVectors) return this.quantize(latents, context).quantized;
    checkMaps(this, latents, { channels: this.latentChannels, what: 'the latents' });
    return latents;
  }

  /** The vectors of the codebook at `indices` [batch, height, width], as [batch, latentChannels, height, width]. */
  private entriesAt(indices: Value, context: ForwardContext): Value {
    if (indices.shape.length !== 3)
      throw new GraphError(
        `VQModel: the indices must be [batch, height, width], but are ${formatShape(indices.shape)}`,
      );
    return transpose(gather(context.parameter(CODEBOOK), indices), [0, 3, 1, 2]);
  }
}
