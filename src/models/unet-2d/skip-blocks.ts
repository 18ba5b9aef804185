// The blocks of score-SDE's VE models (Song et al. 2021, NCSN++): an image goes along beside the feature maps, and is made
// smaller, or larger, by a filter.

import type { Value } from '../../graph/graph.ts';
import { add, silu } from '../../graph/ops/elementwise.ts';
import type { PixelAttention } from '../../nn/attention.ts';
import type { ForwardContext } from '../../nn/context.ts';
import { firDownsample2x, firUpsample2x } from '../../nn/fir.ts';
import { Conv2d, type GroupNorm, sameConv } from '../../nn/layers.ts';
import { type Layer, type ParameterSpec, parametersOf } from '../../nn/parameters.ts';
import type { ResnetBlock } from '../../nn/resnet-block.ts';
import { attend, type BlockOptions, type DownResult, type UpBlockOptions, type UpResult } from './blocks.ts';
import type { UNet2DConfig } from './config.ts';
import { blockAttention, groupNorm, type OwnResnetOptions, quarterGroups, resnetBlock } from './configured-layers.ts';

/** What every residual and attention block is divided by. */
const OUTPUT_SCALE = Math.SQRT2;
/** Groups of the normalisation before attention. */
const ATTENTION_GROUPS = 32;
const IMAGE_CHANNELS = 3;

/** `SkipDownBlock2D` and `AttnSkipDownBlock2D`. */
export class SkipDownBlock implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly resnets: readonly ResnetBlock[];
  private readonly attentions: readonly PixelAttention[];
  private readonly down: { readonly resnet: ResnetBlock; readonly skip: Conv2d } | undefined;

  constructor(name: string, config: UNet2DConfig, options: BlockOptions) {
    const { inChannels, outChannels, timeChannels, attention, resample } = options;
    this.resnets = Array.from({ length: config.layers_per_block }, (_, i) => {
      const channels = i === 0 ? inChannels : outChannels;
      return skipResnet(`${name}.resnets.${i}`, config, { inChannels: channels, outChannels, timeChannels });
    });
    this.attentions = attention
      ? this.resnets.map((_, i) => skipAttention(`${name}.attentions.${i}`, config, outChannels))
      : [];
    this.down = resample && {
      resnet: skipResnet(`${name}.resnet_down`, config, {
        ...{ inChannels: outChannels, outChannels, timeChannels },
        ...{ resample: 'fir-down', hasShortcut: true },
      }),
      skip: new Conv2d(`${name}.skip_conv`, IMAGE_CHANNELS, outChannels, 1),
    };
    this.parameters = parametersOf([...this.attentions, ...this.resnets, this.down?.resnet, this.down?.skip]);
  }

  /** As `DownBlock.forward`. @param image what comes into the network, in the resolution of `x`. */
  forward(x: Value, activatedTime: Value, context: ForwardContext, image: Value): DownResult {
    const states: Value[] = [];
    let hidden = x;
    this.resnets.forEach((resnet, i) => {
      hidden = context.checkpoint((part) => resnet.forward(part, activatedTime, context), [hidden]);
      hidden = attend(this.attentions[i], hidden, context);
      states.push(hidden);
    });
    if (!this.down) return { states, image };
    const { resnet, skip } = this.down;
    const smaller = firDownsample2x(image, context.layout);
    const halved = context.checkpoint((part) => resnet.forward(part, activatedTime, context), [hidden]);
    states.push(add(skip.forward(smaller, context), halved));
    return { states, image: smaller };
  }
}

/** `SkipUpBlock2D` and `AttnSkipUpBlock2D`. */
export class SkipUpBlock implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly resnets: readonly ResnetBlock[];
  private readonly attention: PixelAttention | undefined;
  private readonly up: { readonly resnet: ResnetBlock; readonly skip: Conv2d; readonly norm: GroupNorm } | undefined;

  constructor(name: string, config: UNet2DConfig, options: UpBlockOptions) {
    const { inChannels, outChannels, timeChannels, skipChannels, attention, resample } = options;
    this.resnets = skipChannels.map((skip, i) => {
      const hidden = i === 0 ? inChannels : outChannels;
      const channels = hidden + skip;
      // diffusers divides only the second number by 4 in the block with attention, which published weights were trained with.
      const groups = attention ? Math.min(hidden + Math.floor(skip / 4), 32) : quarterGroups(channels);
      return skipResnet(`${name}.resnets.${i}`, config, { inChannels: channels, outChannels, timeChannels, groups });
    });
    this.attention = attention ? skipAttention(`${name}.attentions.0`, config, outChannels) : undefined;
    this.up = resample && {
      resnet: skipResnet(`${name}.resnet_up`, config, {
        ...{ inChannels: outChannels, outChannels, timeChannels },
        ...{ resample: 'fir-up', hasShortcut: true },
      }),
      skip: sameConv(`${name}.skip_conv`, outChannels, IMAGE_CHANNELS),
      norm: groupNorm(`${name}.skip_norm`, config, outChannels, quarterGroups(outChannels)),
    };
    this.parameters = parametersOf([
      ...[this.attention, ...this.resnets],
      ...[this.up?.resnet, this.up?.skip, this.up?.norm],
    ]);
  }

  /** As `UpBlock.forward`. @param image what blocks before have drawn, in half the resolution of `x`. */
  forward(x: Value, skips: Value[], activatedTime: Value, context: ForwardContext, image: Value | undefined): UpResult {
    let hidden = x;
    for (const resnet of this.resnets) {
      const skip = skips.pop();
      hidden = context.checkpoint(
        (...parts) => resnet.forward(context.layout.concatChannels(parts), activatedTime, context),
        skip ? [hidden, skip] : [hidden],
      );
    }
    hidden = attend(this.attention, hidden, context);
    const larger = image && firUpsample2x(image, context.layout);
    if (!this.up) return { hidden, image: larger };
    const { resnet, skip, norm } = this.up;
    const drawn = skip.forward(silu(norm.forward(hidden, context)), context);
    return {
      hidden: context.checkpoint((part) => resnet.forward(part, activatedTime, context), [hidden]),
      image: larger ? add(larger, drawn) : drawn,
    };
  }
}

function skipResnet(name: string, config: UNet2DConfig, options: OwnResnetOptions): ResnetBlock {
  const { inChannels, outChannels, groups = quarterGroups(inChannels) } = options;
  const outGroups = quarterGroups(outChannels);
  return resnetBlock(name, config, { ...options, groups, outGroups, outputScale: OUTPUT_SCALE });
}

function skipAttention(name: string, config: UNet2DConfig, channels: number): PixelAttention {
  const options = { channels, norm_num_groups: ATTENTION_GROUPS, output_scale_factor: OUTPUT_SCALE };
  return blockAttention(name, config, options);
}
