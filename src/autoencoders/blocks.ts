import type { Value } from '../graph/graph.ts';
import { silu } from '../graph/ops/elementwise.ts';
import { PixelAttention } from '../nn/attention.ts';
import type { ForwardContext } from '../nn/context.ts';
import { Conv2d, GroupNorm, sameConv } from '../nn/layers.ts';
import { MidBlock } from '../nn/mid-block.ts';
import { type Layer, type ParameterSpec, parametersOf } from '../nn/parameters.ts';
import { ResnetBlock, type ResnetBlockOptions } from '../nn/resnet-block.ts';
import { SpatialNorm } from '../nn/spatial-norm.ts';
import type { AutoencoderKLConfig, VQModelConfig } from './config.ts';

type Config = AutoencoderKLConfig | VQModelConfig;

/** What the norms of diffusers' autoencoders add to the variance. */
const EPSILON = 1e-6;

/** Residual blocks, each followed by self-attention where the level has it, and a convolution that resamples. */
class Level implements Layer {
  readonly parameters: readonly ParameterSpec[];
  readonly resample: Conv2d | undefined;
  private readonly resnets: readonly ResnetBlock[];
  private readonly attentions: readonly PixelAttention[];

  constructor(name: string, config: Config, options: LevelOptions) {
    const { inChannels, outChannels, layers, latentChannels } = options;
    this.resnets = Array.from(
      { length: layers },
      (_, i) =>
        new ResnetBlock(
          `${name}.resnets.${i}`,
          resnetOptions(config, i === 0 ? inChannels : outChannels, outChannels, latentChannels),
        ),
    );
    this.attentions = options.attention
      ? this.resnets.map(
          (_, i) =>
            new PixelAttention(`${name}.attentions.${i}`, attentionOptions(config, outChannels, latentChannels)),
        )
      : [];
    this.resample = options.resample?.(outChannels);
    this.parameters = parametersOf([...this.attentions, ...this.resnets, this.resample]);
  }

  /** @param latents what norms are conditioned on, in a decoder with spatial norms. */
  forward(x: Value, latents: Value | undefined, context: ForwardContext): Value {
    let hidden = x;
    this.resnets.forEach((resnet, i) => {
      hidden = context.checkpoint((part) => resnet.forward(part, latents, context), [hidden]);
      const attention = this.attentions[i];
      if (attention) hidden = context.checkpoint((part) => attention.forward(part, context, latents), [hidden]);
    });
    return hidden;
  }
}

interface LevelOptions {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly layers: number;
  readonly attention: boolean;
  readonly latentChannels?: number | undefined;
  /** Makes the convolution at the end; undefined for a level that keeps the size. */
  readonly resample: ((channels: number) => Conv2d) | undefined;
}

/** diffusers' `Encoder`. */
export class Encoder implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly convIn: Conv2d;
  private readonly levels: readonly Level[];
  private readonly midBlock: MidBlock;
  private readonly normOut: GroupNorm;
  private readonly convOut: Conv2d;

  constructor(name: string, config: Config, outChannels: number) {
    const channels = config.block_out_channels;
    const [first = 1] = channels;
    const deepest = channels.at(-1) ?? first;
    this.convIn = sameConv(`${name}.conv_in`, config.in_channels, first);
    this.levels = config.down_block_types.map((type, i) => {
      const block = `${name}.down_blocks.${i}`;
      return new Level(block, config, {
        inChannels: channels[Math.max(i - 1, 0)] ?? 1,
        outChannels: channels[i] ?? 1,
        layers: config.layers_per_block,
        attention: type === 'AttnDownEncoderBlock2D',
        // diffusers pads one row below and one column to the right.
        resample:
          i === channels.length - 1
            ? undefined
            : (width) =>
                new Conv2d(`${block}.downsamplers.0.conv`, width, width, 3, { strides: [2, 2], pads: [0, 0, 1, 1] }),
      });
    });
    this.midBlock = midBlock(`${name}.mid_block`, config, deepest, undefined);
    this.normOut = new GroupNorm(`${name}.conv_norm_out`, config.norm_num_groups, deepest, EPSILON);
    this.convOut = sameConv(`${name}.conv_out`, deepest, outChannels);
    const { convIn, levels, normOut, convOut } = this;
    this.parameters = parametersOf([convIn, ...levels, this.midBlock, normOut, convOut]);
  }

  /** @param maps feature maps of the images. */
  forward(maps: Value, context: ForwardContext): Value {
    let hidden = this.convIn.forward(maps, context);
    for (const level of this.levels) {
      hidden = level.forward(hidden, undefined, context);
      hidden = level.resample?.forward(hidden, context) ?? hidden;
    }
    hidden = this.midBlock.forward(hidden, undefined, context);
    return this.convOut.forward(silu(this.normOut.forward(hidden, context)), context);
  }
}

/** diffusers' `Decoder`. */
export class Decoder implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly convIn: Conv2d;
  private readonly levels: readonly Level[];
  private readonly midBlock: MidBlock;
  private readonly normOut: GroupNorm | SpatialNorm;
  private readonly convOut: Conv2d;

  /** @param latentChannels of the latents that spatial norms are conditioned on; undefined for group norms. */
  constructor(name: string, config: Config, latentChannels?: number) {
    const channels = config.block_out_channels.toReversed();
    const [deepest = 1] = channels;
    const last = channels.at(-1) ?? deepest;
    this.convIn = sameConv(`${name}.conv_in`, config.latent_channels, deepest);
    this.levels = config.up_block_types.map((type, i) => {
      const block = `${name}.up_blocks.${i}`;
      return new Level(block, config, {
        inChannels: channels[Math.max(i - 1, 0)] ?? 1,
        outChannels: channels[i] ?? 1,
        layers: config.layers_per_block + 1,
        attention: type === 'AttnUpDecoderBlock2D',
        latentChannels,
        resample:
          i === channels.length - 1 ? undefined : (width) => sameConv(`${block}.upsamplers.0.conv`, width, width),
      });
    });
    this.midBlock = midBlock(`${name}.mid_block`, config, deepest, latentChannels);
    this.normOut =
      latentChannels === undefined
        ? new GroupNorm(`${name}.conv_norm_out`, config.norm_num_groups, last, EPSILON)
        : new SpatialNorm(`${name}.conv_norm_out`, last, latentChannels);
    this.convOut = sameConv(`${name}.conv_out`, last, config.out_channels);
    const { convIn, levels, normOut, convOut } = this;
    this.parameters = parametersOf([convIn, ...levels, this.midBlock, normOut, convOut]);
  }

  /**
   * @param maps feature maps of `latent_channels`.
   * @param latents feature maps that spatial norms are conditioned on.
   * @throws {GraphError} when it has spatial norms and there are none.
   */
  forward(maps: Value, latents: Value | undefined, context: ForwardContext): Value {
    let hidden = this.convIn.forward(maps, context);
    hidden = this.midBlock.forward(hidden, latents, context);
    for (const level of this.levels) {
      hidden = level.forward(hidden, latents, context);
      hidden = level.resample?.forward(context.layout.upsampleNearest2x(hidden), context) ?? hidden;
    }
    const { normOut } = this;
    const normalised =
      normOut instanceof SpatialNorm ? normOut.forward(hidden, latents, context) : normOut.forward(hidden, context);
    return this.convOut.forward(silu(normalised), context);
  }
}

function midBlock(name: string, config: Config, channels: number, latentChannels: number | undefined): MidBlock {
  const resnet = resnetOptions(config, channels, channels, latentChannels);
  const attention = attentionOptions(config, channels, latentChannels);
  return new MidBlock(name, resnet, config.mid_block_add_attention ? attention : undefined);
}

function resnetOptions(
  { act_fn, norm_num_groups }: Config,
  inChannels: number,
  outChannels: number,
  latentChannels: number | undefined,
): ResnetBlockOptions {
  return { inChannels, outChannels, latentChannels, activation: act_fn, groups: norm_num_groups, epsilon: EPSILON };
}

/** One head over all channels. */
function attentionOptions({ norm_num_groups }: Config, channels: number, latentChannels: number | undefined) {
  const isSpatial = latentChannels !== undefined;
  return {
    channels,
    head_dim: null,
    norm_num_groups: isSpatial ? null : norm_num_groups,
    norm_eps: EPSILON,
    spatial_norm_dim: latentChannels,
  };
}
