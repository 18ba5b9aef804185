import type { Value } from '../../graph/graph.ts';
import { add, mul, split } from '../../graph/ops/index.ts';
import { scalarLike } from '../../graph/registry.ts';
import type { ForwardContext } from '../../nn/context.ts';
import { activation, Conv2d, GroupNorm, Linear, sameConv } from '../../nn/layers.ts';
import { type Layer, type ParameterSpec, parametersOf } from '../../nn/parameters.ts';
import type { UNet2DConfig } from './config.ts';

export interface ResnetBlockOptions {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly timeChannels: number;
  /** What the result is divided by; default 1. */
  readonly outputScale?: number | undefined;
}

/** diffusers' `ResnetBlock2D`: two convolutions with the time embedding between them, and a way around. */
export class ResnetBlock implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly norm1: GroupNorm;
  private readonly conv1: Conv2d;
  private readonly timeProjection: Linear;
  private readonly norm2: GroupNorm;
  private readonly conv2: Conv2d;
  private readonly shortcut: Conv2d | undefined;
  private readonly activate: (x: Value) => Value;
  private readonly scalesAndShifts: boolean;
  private readonly dropout: number;
  private readonly outputScale: number;

  constructor(name: string, config: UNet2DConfig, options: ResnetBlockOptions) {
    const { inChannels, outChannels, timeChannels } = options;
    const { norm_num_groups, norm_eps } = config;
    this.scalesAndShifts = config.resnet_time_scale_shift === 'scale_shift';
    this.dropout = config.dropout;
    this.outputScale = options.outputScale ?? 1;
    this.activate = activation(config.act_fn);
    this.norm1 = new GroupNorm(`${name}.norm1`, norm_num_groups, inChannels, norm_eps);
    this.conv1 = sameConv(`${name}.conv1`, inChannels, outChannels);
    const projected = this.scalesAndShifts ? 2 * outChannels : outChannels;
    this.timeProjection = new Linear(`${name}.time_emb_proj`, timeChannels, projected);
    this.norm2 = new GroupNorm(`${name}.norm2`, norm_num_groups, outChannels, norm_eps);
    this.conv2 = sameConv(`${name}.conv2`, outChannels, outChannels);
    this.shortcut =
      inChannels === outChannels
        ? undefined
        : new Conv2d(`${name}.conv_shortcut`, inChannels, outChannels, 1);
    const { norm1, conv1, timeProjection, norm2, conv2, shortcut } = this;
    this.parameters = parametersOf([norm1, conv1, timeProjection, norm2, conv2, shortcut]);
  }

  /** @param activatedTime the time embedding after the activation, [batch or 1, timeChannels]. */
  forward(x: Value, activatedTime: Value, context: ForwardContext): Value {
    let hidden = this.conv1.forward(this.activate(this.norm1.forward(x, context)), context);
    hidden = this.normWithTime(hidden, this.timeProjection.forward(activatedTime, context), context);
    hidden = this.conv2.forward(context.dropout(this.activate(hidden), this.dropout), context);
    const residual = this.shortcut ? this.shortcut.forward(x, context) : x;
    const sum = add(residual, hidden);
    return this.outputScale === 1 ? sum : mul(sum, scalarLike(sum, 1 / this.outputScale));
  }

  private normWithTime(hidden: Value, time: Value, context: ForwardContext): Value {
    const { perChannel } = context.layout;
    if (!this.scalesAndShifts) return this.norm2.forward(add(hidden, perChannel(time)), context);
    const channels = Number(time.shape[1]) / 2;
    const [scale = time, shift = time] = split(time, [channels, channels], 1).map(perChannel);
    const normalised = this.norm2.forward(hidden, context);
    return add(mul(normalised, add(scale, scalarLike(scale, 1))), shift);
  }
}
