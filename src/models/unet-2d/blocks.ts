import type { Value } from '../../graph/graph.ts';
import type { PixelAttention } from '../../nn/attention.ts';
import type { ForwardContext } from '../../nn/context.ts';
import { Conv2d, sameConv } from '../../nn/layers.ts';
import { MidBlock } from '../../nn/mid-block.ts';
import { type Layer, type ParameterSpec, parametersOf } from '../../nn/parameters.ts';
import { ResnetBlock } from '../../nn/resnet-block.ts';
import type { UNet2DConfig } from './config.ts';
import { attentionOptions, blockAttention, groupsFor, resnetBlock, resnetOptions } from './configured-layers.ts';

/** What a block on the way down hands on. */
export interface DownResult {
  /** Every hidden state, for the way up; the last is the block's result. */
  readonly states: readonly Value[];
  /** What came into the network, as small as the result. A block that does not make it smaller leaves it out. */
  readonly image?: Value | undefined;
}

/** What a block on the way up hands on. */
export interface UpResult {
  readonly hidden: Value;
  /** What 'Skip' blocks have drawn so far. */
  readonly image?: Value | undefined;
}

export interface BlockOptions {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly timeChannels: number;
  readonly attention: boolean;
  /** How the block ends by halving, or doubling, the resolution; undefined: it keeps it. */
  readonly resample: 'conv' | 'resnet' | 'fir' | undefined;
}

/** `DownBlock2D`, `AttnDownBlock2D` and `ResnetDownsampleBlock2D`. */
export class DownBlock implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly resnets: readonly ResnetBlock[];
  private readonly attentions: readonly PixelAttention[];
  private readonly downsample: Conv2d | ResnetBlock | undefined;

  constructor(name: string, config: UNet2DConfig, options: BlockOptions) {
    const { inChannels, outChannels, timeChannels } = options;
    this.resnets = Array.from({ length: config.layers_per_block }, (_, i) =>
      resnetBlock(`${name}.resnets.${i}`, config, {
        inChannels: i === 0 ? inChannels : outChannels,
        outChannels,
        timeChannels,
      }),
    );
    this.attentions = options.attention
      ? this.resnets.map((_, i) => blockAttention(`${name}.attentions.${i}`, config, { channels: outChannels }))
      : [];
    this.downsample = downsampler(`${name}.downsamplers.0`, config, options);
    this.parameters = parametersOf([...this.attentions, ...this.resnets, this.downsample]);
  }

  forward(x: Value, activatedTime: Value, context: ForwardContext): DownResult {
    const states: Value[] = [];
    let hidden = x;
    this.resnets.forEach((resnet, i) => {
      hidden = context.checkpoint((x) => resnet.forward(x, activatedTime, context), [hidden]);
      hidden = attend(this.attentions[i], hidden, context);
      states.push(hidden);
    });
    if (this.downsample) states.push(resample(this.downsample, hidden, activatedTime, context));
    return { states };
  }
}

export interface UpBlockOptions extends BlockOptions {
  /** Channels of the hidden states from the way down, in the order in which they are taken. */
  readonly skipChannels: readonly number[];
}

/** `UpBlock2D`, `AttnUpBlock2D` and `ResnetUpsampleBlock2D`. */
export class UpBlock implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly resnets: readonly ResnetBlock[];
  private readonly attentions: readonly PixelAttention[];
  private readonly upsample: Conv2d | ResnetBlock | undefined;

  constructor(name: string, config: UNet2DConfig, options: UpBlockOptions) {
    const { inChannels, outChannels, timeChannels } = options;
    this.resnets = options.skipChannels.map((skip, i) =>
      resnetBlock(`${name}.resnets.${i}`, config, {
        inChannels: (i === 0 ? inChannels : outChannels) + skip,
        outChannels,
        timeChannels,
      }),
    );
    this.attentions = options.attention
      ? this.resnets.map((_, i) => blockAttention(`${name}.attentions.${i}`, config, { channels: outChannels }))
      : [];
    this.upsample = upsampler(`${name}.upsamplers.0`, config, options);
    this.parameters = parametersOf([...this.attentions, ...this.resnets, this.upsample]);
  }

  /** @param skips hidden states of the way down; those used are taken from the end. */
  forward(x: Value, skips: Value[], activatedTime: Value, context: ForwardContext): UpResult {
    let hidden = x;
    this.resnets.forEach((resnet, i) => {
      const skip = skips.pop();
      hidden = context.checkpoint(
        (...parts) => resnet.forward(context.layout.concatChannels(parts), activatedTime, context),
        skip ? [hidden, skip] : [hidden],
      );
      hidden = attend(this.attentions[i], hidden, context);
    });
    if (!this.upsample) return { hidden };
    // A residual block doubles the resolution itself.
    const enlarged = this.upsample instanceof ResnetBlock ? hidden : context.layout.upsampleNearest2x(hidden);
    return { hidden: resample(this.upsample, enlarged, activatedTime, context) };
  }
}

function downsampler(name: string, config: UNet2DConfig, { outChannels, timeChannels, resample }: BlockOptions) {
  if (resample === 'resnet')
    return resnetBlock(name, config, { inChannels: outChannels, outChannels, timeChannels, resample: 'down' });
  // With downsample_padding 0 diffusers pads one row below and one column to the right.
  const pads = config.downsample_padding === 0 ? ([0, 0, 1, 1] as const) : ([1, 1, 1, 1] as const);
  return resample && new Conv2d(`${name}.conv`, outChannels, outChannels, 3, { strides: [2, 2], pads });
}

function upsampler(name: string, config: UNet2DConfig, { outChannels, timeChannels, resample }: BlockOptions) {
  if (resample === 'resnet')
    return resnetBlock(name, config, { inChannels: outChannels, outChannels, timeChannels, resample: 'up' });
  return resample && sameConv(`${name}.conv`, outChannels, outChannels);
}

function resample(layer: Conv2d | ResnetBlock, x: Value, activatedTime: Value, context: ForwardContext): Value {
  if (!(layer instanceof ResnetBlock)) return layer.forward(x, context);
  return context.checkpoint((part) => layer.forward(part, activatedTime, context), [x]);
}

/** `UNetMidBlock2D`. */
export function midBlock(name: string, config: UNet2DConfig, channels: number, timeChannels: number): MidBlock {
  const { mid_block_scale_factor: outputScale, resnet_time_scale_shift, attn_norm_num_groups } = config;
  const defaultGroups = resnet_time_scale_shift === 'default' ? groupsFor(config, channels) : null;
  const attention = {
    channels,
    norm_num_groups: attn_norm_num_groups ?? defaultGroups,
    output_scale_factor: outputScale,
  };
  return new MidBlock(
    name,
    resnetOptions(name, config, { inChannels: channels, outChannels: channels, timeChannels, outputScale }),
    config.add_attention ? attentionOptions(name, config, attention) : undefined,
  );
}

export function attend(attention: PixelAttention | undefined, x: Value, context: ForwardContext): Value {
  return attention ? context.checkpoint((part) => attention.forward(part, context), [x]) : x;
}
