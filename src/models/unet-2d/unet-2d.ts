import { ConfigError, GraphError } from '../../errors.ts';
import type { Value } from '../../graph/graph.ts';
import { add, cast, div, mul, silu, sub } from '../../graph/ops/elementwise.ts';
import { reshape } from '../../graph/ops/shape.ts';
import { scalarLike } from '../../graph/registry.ts';
import { formatShape } from '../../graph/types.ts';
import type { PretrainedOptions } from '../../hub/open-pretrained.ts';
import type { ForwardContext } from '../../nn/context.ts';
import { activation, type Conv2d, Embedding, GroupNorm, sameConv } from '../../nn/layers.ts';
import type { MidBlock } from '../../nn/mid-block.ts';
import { type ParameterSpec, parametersOf } from '../../nn/parameters.ts';
import { TimestepEmbedding } from '../../nn/time-embedding.ts';
import { type DiffusionModel, type ModelInputs, parametersFrom } from '../model.ts';
import { DownBlock, midBlock, UpBlock } from './blocks.ts';
import { optionsFromJson, parseUNet2DOptions, sampleSize, type UNet2DConfig, type UNet2DOptions } from './config.ts';
import { type TimeProjection, timeProjection } from './time-projection.ts';

/**
 * The U-Net of DDPM (Ho et al. 2020) as diffusers' `UNet2DModel`: the same configuration, the same names and shapes of
 * parameters in the same order, the same outputs.
 *
 * @example
 * const model = new UNet2DModel(unet2DPreset('ddpm-cifar10'));
 * model.parameters.length; // 328
 */
export class UNet2DModel implements DiffusionModel {
  readonly config: UNet2DConfig;
  readonly library = 'diffusers';
  readonly takesFractionalTimesteps: boolean;
  readonly timestepRange: readonly [number, number] | undefined;
  readonly parameters: readonly ParameterSpec[];
  readonly sampleShape: readonly number[];
  readonly outputChannels: number;
  readonly classCount: number | undefined;
  private readonly convIn: Conv2d;
  private readonly timeProjection: TimeProjection;
  private readonly timeEmbedding: TimestepEmbedding;
  private readonly classEmbedding: Embedding | undefined;
  private readonly downBlocks: readonly DownBlock[];
  private readonly upBlocks: readonly UpBlock[];
  private readonly midBlock: MidBlock | undefined;
  private readonly normOut: GroupNorm;
  private readonly convOut: Conv2d;

  /**
   * @param weights what training begins from, by parameter name; default: random, as torch initialises its layers.
   * @throws {ConfigError} when an option is unknown, out of range, or in conflict with another, or `weights` are of
   * another model.
   */
  constructor(options: UNet2DOptions, weights?: ReadonlyMap<string, Float32Array>) {
    const config = parseUNet2DOptions(options);
    this.config = config;
    this.takesFractionalTimesteps = config.time_embedding_type !== 'learned';
    this.timestepRange = timestepRange(config);
    this.sampleShape = [config.in_channels, ...sampleSize(config)];
    this.outputChannels = config.out_channels;
    this.classCount = config.num_class_embeds ?? undefined;
    const channels = config.block_out_channels;
    const [firstChannels = 1] = channels;
    const deepest = channels.at(-1) ?? firstChannels;
    const timeChannels = config.time_embedding_dim ?? 4 * firstChannels;
    this.convIn = sameConv('conv_in', config.in_channels, firstChannels);
    this.timeProjection = timeProjection(config);
    this.timeEmbedding = new TimestepEmbedding('time_embedding', this.timeProjection.features, timeChannels);
    this.classEmbedding =
      config.num_class_embeds === null
        ? undefined
        : new Embedding('class_embedding', config.num_class_embeds, timeChannels);
    this.downBlocks = downBlocks(config, timeChannels);
    this.upBlocks = upBlocks(config, timeChannels);
    this.midBlock = config.mid_block_type === null ? undefined : midBlock('mid_block', config, deepest, timeChannels);
    this.normOut = new GroupNorm('conv_norm_out', config.norm_num_groups, firstChannels, config.norm_eps);
    this.convOut = sameConv('conv_out', firstChannels, config.out_channels);
    const parameters = parametersOf([
      ...[this.convIn, this.timeProjection, this.timeEmbedding, this.classEmbedding],
      ...[...this.downBlocks, ...this.upBlocks, this.midBlock, this.normOut, this.convOut],
    ]);
    this.parameters = weights ? parametersFrom({ config, parameters }, weights, ConfigError) : parameters;
  }

  /** Builds the model of a parsed `config.json`. @throws {ConfigError} as the constructor. */
  static fromConfig(json: unknown): UNet2DModel {
    return new UNet2DModel(optionsFromJson(json));
  }

  /**
   * The model of a diffusers folder or a Hub id with its weights, to be fine-tuned: a `Trainer` begins from them.
   * Safetensors of float32, float16, bfloat16 or float64, whole or in shards, with present or old names of attention.
   *
   * @param model a local path (`./...`, `/...`), a pipeline or a model alone, or a Hub id `owner/name`.
   * @param options.ema whether to take the averaged weights, `unet_ema`; default true where the folder has them.
   * @throws {FileFormatError} when the folder is incomplete or damaged, or has its weights as pickles only.
   * @throws {ConfigError} when the config is not one of a UNet2DModel, or does not fit the weights.
   * @throws {HubError} when it cannot be downloaded.
   * @example
   * const model = await UNet2DModel.from_pretrained('google/ddpm-cifar10-32');
   * const noise_scheduler = await DDPMScheduler.from_pretrained('google/ddpm-cifar10-32');
   * const trainer = new Trainer({ model, noise_scheduler, args, train_dataset, loss: isoLoss({ lambda: 0.05 }) });
   */
  static async from_pretrained(
    model: string,
    { ema = true, ...options }: PretrainedOptions & { readonly ema?: boolean | undefined } = {},
  ): Promise<UNet2DModel> {
    // What reads files comes only with this call: the model itself is arithmetic.
    const { openPretrained } = await import('../../hub/open-pretrained.ts');
    const { readModelWeights } = await import('../weights.ts');
    const { unetConfig, paths, emaPaths } = await openPretrained(model, options);
    const architecture = UNet2DModel.fromConfig(unetConfig);
    const weights = await readModelWeights(architecture, (ema && emaPaths ? emaPaths : paths).weights);
    return new UNet2DModel(optionsFromJson(unetConfig), weights);
  }

  /**
   * See `DiffusionModel.forward`: sample [batch, in_channels, height, width], timestep [batch] or [1], class_labels
   * [batch] or [1] where the model has `num_class_embeds`.
   *
   * @returns [batch, out_channels, height, width].
   * @throws {GraphError} when the sample has another shape, or labels are missing.
   */
  forward(inputs: ModelInputs, context: ForwardContext): Value {
    const { sample } = inputs;
    if (sample.shape.length !== 4 || sample.shape[1] !== this.config.in_channels)
      throw new GraphError(
        `UNet2DModel: the sample must be [batch, ${this.sampleShape.join(', ')}], but is ${formatShape(sample.shape)}`,
      );
    const time = activation(this.config.act_fn)(this.embed(inputs, context));
    // diffusers' center_input_sample maps [0, 1] to [-1, 1].
    const centred = this.config.center_input_sample
      ? sub(mul(sample, scalarLike(sample, 2)), scalarLike(sample, 1))
      : sample;
    let hidden = this.convIn.forward(context.layout.fromImages(centred), context);
    const skips = [hidden];
    for (const block of this.downBlocks) {
      const states = block.forward(hidden, time, context);
      skips.push(...states);
      hidden = states.at(-1) ?? hidden;
    }
    hidden = this.midBlock?.forward(hidden, time, context) ?? hidden;
    for (const block of this.upBlocks) hidden = block.forward(hidden, skips, time, context);
    const images = context.layout.toImages(this.convOut.forward(silu(this.normOut.forward(hidden, context)), context));
    if (this.config.time_embedding_type !== 'fourier') return images;
    // A model with this encoding is told noise levels, and predicts the score times the level.
    return div(images, reshape(cast(inputs.timestep, images.dtype), [-1, 1, 1, 1]));
  }

  private embed({ timestep, class_labels }: ModelInputs, context: ForwardContext): Value {
    const encoded = this.timeProjection.forward(timestep, this.timeEmbedding.dtype(context), context);
    const time = this.timeEmbedding.forward(encoded, context);
    if (!this.classEmbedding) return time;
    if (!class_labels)
      throw new GraphError(`UNet2DModel: the model has ${this.classCount} classes and needs class labels`);
    return add(time, this.classEmbedding.forward(class_labels, context));
  }
}

function timestepRange({ time_embedding_type, num_train_timesteps }: UNet2DConfig) {
  if (time_embedding_type === 'learned') return [0, (num_train_timesteps ?? 1) - 1] as const;
  // The logarithm of 0 is not finite.
  return time_embedding_type === 'fourier' ? ([Number.MIN_VALUE, Number.POSITIVE_INFINITY] as const) : undefined;
}

/** How blocks change the resolution; those with attention do as the config says. */
const RESAMPLERS: Readonly<Record<string, 'conv' | 'resnet'>> = {
  DownBlock2D: 'conv',
  UpBlock2D: 'conv',
  ResnetDownsampleBlock2D: 'resnet',
  ResnetUpsampleBlock2D: 'resnet',
};

function downBlocks(config: UNet2DConfig, timeChannels: number): DownBlock[] {
  const channels = config.block_out_channels;
  return config.down_block_types.map(
    (type, i) =>
      new DownBlock(`down_blocks.${i}`, config, {
        inChannels: channels[Math.max(i - 1, 0)] ?? 1,
        outChannels: channels[i] ?? 1,
        timeChannels,
        attention: type === 'AttnDownBlock2D',
        resample: i === channels.length - 1 ? undefined : (RESAMPLERS[type] ?? config.downsample_type),
      }),
  );
}

function upBlocks(config: UNet2DConfig, timeChannels: number): UpBlock[] {
  const channels = config.block_out_channels.toReversed();
  const last = channels.length - 1;
  return config.up_block_types.map((type, i) => {
    const outChannels = channels[i] ?? 1;
    const nextChannels = channels[Math.min(i + 1, last)] ?? 1;
    return new UpBlock(`up_blocks.${i}`, config, {
      inChannels: channels[Math.max(i - 1, 0)] ?? 1,
      outChannels,
      timeChannels,
      // The level's own states, then what came into it: from the level above, or from conv_in.
      skipChannels: [...Array<number>(config.layers_per_block).fill(outChannels), nextChannels],
      attention: type === 'AttnUpBlock2D',
      resample: i === last ? undefined : (RESAMPLERS[type] ?? config.upsample_type),
    });
  });
}
