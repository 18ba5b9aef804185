import { ConfigError, GraphError } from '../../errors.ts';
import type { Value } from '../../graph/graph.ts';
import { add, cast, div, mul, silu, sub } from '../../graph/ops/elementwise.ts';
import { concat, reshape } from '../../graph/ops/shape.ts';
import { scalarLike } from '../../graph/registry.ts';
import { formatShape } from '../../graph/types.ts';
import type { PretrainedOptions } from '../../hub/open-pretrained.ts';
import type { ForwardContext } from '../../nn/context.ts';
import { activation, type Conv2d, Embedding, type GroupNorm, sameConv } from '../../nn/layers.ts';
import type { MidBlock } from '../../nn/mid-block.ts';
import { type ParameterSpec, parametersOf } from '../../nn/parameters.ts';
import { TimestepEmbedding } from '../../nn/time-embedding.ts';
import { type DiffusionModel, type ModelInputs, parametersFrom, type SampleSize } from '../model.ts';
import { DownBlock, midBlock, UpBlock } from './blocks.ts';
import {
  conditionChannels,
  isSkipBlock,
  optionsFromJson,
  parseUNet2DOptions,
  sampleSize,
  type UNet2DConfig,
  type UNet2DOptions,
} from './config.ts';
import { groupNorm } from './configured-layers.ts';
import { SkipDownBlock, SkipUpBlock } from './skip-blocks.ts';
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
  readonly outputChannels: number;
  readonly conditionChannels: number | undefined;
  readonly classCount: number | undefined;
  readonly classLabelShape: readonly number[] | undefined;
  private readonly convIn: Conv2d;
  private readonly timeProjection: TimeProjection;
  private readonly timeEmbedding: TimestepEmbedding;
  private readonly classEmbedding: Embedding | TimestepEmbedding | undefined;
  private readonly downBlocks: readonly (DownBlock | SkipDownBlock)[];
  private readonly upBlocks: readonly (UpBlock | SkipUpBlock)[];
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
    this.outputChannels = config.out_channels;
    this.conditionChannels = conditionChannels(config) || undefined;
    const channels = config.block_out_channels;
    const [firstChannels = 1] = channels;
    const deepest = channels.at(-1) ?? firstChannels;
    const timeChannels = config.time_embedding_dim ?? 4 * firstChannels;
    this.convIn = sameConv('conv_in', config.in_channels, firstChannels);
    this.timeProjection = timeProjection(config);
    this.timeEmbedding = new TimestepEmbedding('time_embedding', this.timeProjection.features, timeChannels);
    const { classCount, shape, embedding } = classLabels(config, this.timeProjection.features, timeChannels);
    this.classCount = classCount;
    this.classLabelShape = shape;
    this.classEmbedding = embedding;
    this.downBlocks = downBlocks(config, timeChannels);
    this.upBlocks = upBlocks(config, timeChannels);
    this.midBlock = config.mid_block_type === null ? undefined : midBlock('mid_block', config, deepest, timeChannels);
    this.normOut = groupNorm('conv_norm_out', config, firstChannels);
    this.convOut = sameConv('conv_out', firstChannels, config.out_channels);
    const parameters = parametersOf([
      ...[this.convIn, this.timeProjection, this.timeEmbedding, this.classEmbedding],
      ...[...this.downBlocks, ...this.upBlocks, this.midBlock, this.normOut, this.convOut],
    ]);
    this.parameters = weights ? parametersFrom({ config, parameters }, weights, ConfigError) : parameters;
  }

  /**
   * [in_channels, height, width], without the channels of the condition.
   *
   * @throws {ConfigError} where `sample_size` is null.
   */
  get sampleShape(): readonly number[] {
    return [this.config.in_channels - (this.conditionChannels ?? 0), ...sampleSize(this.config)];
  }

  /** See `DiffusionModel.withSampleSize`. @throws {ConfigError} when the size cannot be halved as often as the model does. */
  withSampleSize(size: SampleSize): UNet2DModel {
    const { _class_name, ...options } = this.config;
    const sized = new UNet2DModel({ ...options, sample_size: size });
    // They do not depend on the size, but may begin from given weights.
    return Object.create(sized, { parameters: { value: this.parameters, enumerable: true } });
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
   * See `DiffusionModel.forward`: sample and condition, together [batch, in_channels, height, width], timestep [batch] or [1],
   * class_labels [batch] or [1] where the model has `num_class_embeds` or 'timestep' as `class_embed_type`, for 'identity'
   * [batch or 1, length of the time embedding].
   *
   * @returns [batch, out_channels, height, width].
   * @throws {GraphError} when the sample or the condition has another shape, or labels are missing.
   */
  forward(inputs: ModelInputs, context: ForwardContext): Value {
    const { sample } = inputs;
    const channels = this.config.in_channels - (this.conditionChannels ?? 0);
    if (sample.shape.length !== 4 || sample.shape[1] !== channels)
      throw new GraphError(
        `UNet2DModel: the sample must be [batch, ${channels}, height, width], but is ${formatShape(sample.shape)}`,
      );
    const time = activation(this.config.act_fn)(this.embed(inputs, context));
    const input = this.withCondition(inputs);
    // diffusers' center_input_sample maps [0, 1] to [-1, 1].
    const centred = this.config.center_input_sample
      ? sub(mul(input, scalarLike(input, 2)), scalarLike(input, 1))
      : input;
    let image = context.layout.fromImages(centred);
    let hidden = this.convIn.forward(image, context);
    const skips = [hidden];
    for (const block of this.downBlocks) {
      const down = block.forward(hidden, time, context, image);
      skips.push(...down.states);
      hidden = down.states.at(-1) ?? hidden;
      image = down.image ?? image;
    }
    hidden = this.midBlock?.forward(hidden, time, context) ?? hidden;
    let drawn: Value | undefined;
    for (const block of this.upBlocks) ({ hidden, image: drawn } = block.forward(hidden, skips, time, context, drawn));
    const last = this.convOut.forward(silu(this.normOut.forward(hidden, context)), context);
    const images = context.layout.toImages(drawn ? add(last, drawn) : last);
    if (this.config.time_embedding_type !== 'fourier') return images;
    // A model with this encoding is told noise levels, and predicts the score times the level.
    return div(images, reshape(cast(inputs.timestep, images.dtype), [-1, 1, 1, 1]));
  }

  /** What the network takes: the condition behind the sample, as diffusers' LDMSuperResolutionPipeline puts it. */
  private withCondition({ sample, condition }: ModelInputs): Value {
    const { conditionChannels: channels } = this;
    if (channels === undefined) return sample;
    const wanted = [sample.shape[0], channels, ...sample.shape.slice(2)];
    if (condition?.shape.length === 4 && condition.shape.every((dim, axis) => dim === wanted[axis]))
      return concat([sample, condition], 1);
    throw new GraphError(
      `UNet2DModel: the condition must be ${formatShape(wanted.map((dim) => dim ?? 1))}, but is ${condition ? formatShape(condition.shape) : 'missing'}`,
    );
  }

  private embed({ timestep, class_labels }: ModelInputs, context: ForwardContext): Value {
    const encode = (values: Value) => this.timeProjection.forward(values, this.timeEmbedding.dtype(context), context);
    const time = this.timeEmbedding.forward(encode(timestep), context);
    const { class_embed_type } = this.config;
    if (!this.classEmbedding && class_embed_type !== 'identity') return time;
    if (!class_labels) throw new GraphError(`UNet2DModel: the model has classes and needs class labels`);
    if (!this.classEmbedding) return add(time, cast(class_labels, time.dtype));
    const given = class_embed_type === 'timestep' ? encode(class_labels) : class_labels;
    return add(time, this.classEmbedding.forward(given, context));
  }
}

/** What labels are, and the layer that embeds them. */
function classLabels(config: UNet2DConfig, encoded: number, timeChannels: number) {
  const { class_embed_type, num_class_embeds, time_embedding_type, num_train_timesteps } = config;
  switch (class_embed_type) {
    case 'timestep':
      return {
        // A learned encoding has a vector for each timestep, and so for each class.
        ...(time_embedding_type === 'learned' ? { classCount: num_train_timesteps ?? 1 } : { shape: [] }),
        embedding: new TimestepEmbedding('class_embedding', encoded, timeChannels),
      };
    case 'identity':
      return { shape: [timeChannels] };
    case null:
      return num_class_embeds === null
        ? {}
        : { classCount: num_class_embeds, embedding: new Embedding('class_embedding', num_class_embeds, timeChannels) };
  }
}

function timestepRange({ time_embedding_type, num_train_timesteps }: UNet2DConfig) {
  if (time_embedding_type === 'learned') return [0, (num_train_timesteps ?? 1) - 1] as const;
  // The logarithm of 0 is not finite. The first session of onnxruntime in a process may make smaller numbers 0.
  const leastNormal = 2 ** -126;
  return time_embedding_type === 'fourier' ? ([leastNormal, Number.POSITIVE_INFINITY] as const) : undefined;
}

/** How blocks change the resolution; those with attention do as the config says. */
const RESAMPLERS: Readonly<Record<string, 'conv' | 'resnet' | 'fir'>> = {
  DownBlock2D: 'conv',
  UpBlock2D: 'conv',
  ResnetDownsampleBlock2D: 'resnet',
  ResnetUpsampleBlock2D: 'resnet',
  SkipDownBlock2D: 'fir',
  AttnSkipDownBlock2D: 'fir',
  SkipUpBlock2D: 'fir',
  AttnSkipUpBlock2D: 'fir',
};

function downBlocks(config: UNet2DConfig, timeChannels: number): (DownBlock | SkipDownBlock)[] {
  const channels = config.block_out_channels;
  return config.down_block_types.map((type, i) => {
    const Block = isSkipBlock(type) ? SkipDownBlock : DownBlock;
    return new Block(`down_blocks.${i}`, config, {
      inChannels: channels[Math.max(i - 1, 0)] ?? 1,
      outChannels: channels[i] ?? 1,
      timeChannels,
      attention: type.startsWith('Attn'),
      resample: i === channels.length - 1 ? undefined : (RESAMPLERS[type] ?? config.downsample_type ?? 'conv'),
    });
  });
}

function upBlocks(config: UNet2DConfig, timeChannels: number): (UpBlock | SkipUpBlock)[] {
  const channels = config.block_out_channels.toReversed();
  const last = channels.length - 1;
  return config.up_block_types.map((type, i) => {
    const outChannels = channels[i] ?? 1;
    const nextChannels = channels[Math.min(i + 1, last)] ?? 1;
    const Block = isSkipBlock(type) ? SkipUpBlock : UpBlock;
    return new Block(`up_blocks.${i}`, config, {
      inChannels: channels[Math.max(i - 1, 0)] ?? 1,
      outChannels,
      timeChannels,
      // The level's own states, then what came into it: from the level above, or from conv_in.
      skipChannels: [...Array<number>(config.layers_per_block).fill(outChannels), nextChannels],
      attention: type.startsWith('Attn'),
      resample: i === last ? undefined : (RESAMPLERS[type] ?? config.upsample_type ?? 'conv'),
    });
  });
}
