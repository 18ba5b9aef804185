import { GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { add, mul } from '../graph/ops/elementwise.ts';
import { split } from '../graph/ops/shape.ts';
import { scalarLike } from '../graph/registry.ts';
import type { ForwardContext } from './context.ts';
import { firDownsample2x, firUpsample2x } from './fir.ts';
import { type ActivationName, activation, Conv2d, GroupNorm, Linear, sameConv } from './layers.ts';
import type { Layout } from './layout.ts';
import { type Layer, type ParameterSpec, parametersOf } from './parameters.ts';
import { SpatialNorm } from './spatial-norm.ts';

/** How a block changes the resolution of feature maps. */
const RESAMPLERS = {
  /** Means of 2 x 2 pixels. */
  down: (maps: Value, layout: Layout) => layout.averagePool2x(maps),
  /** Every pixel twice in both directions. */
  up: (maps: Value, layout: Layout) => layout.upsampleNearest2x(maps),
  'fir-down': firDownsample2x,
  'fir-up': firUpsample2x,
};

/** Options of `ResnetBlock`. */
export interface ResnetBlockOptions {
  readonly inChannels: number;
  readonly outChannels: number;
  /** Length of the time embedding; default: the block takes none. */
  readonly timeChannels?: number | undefined;
  /** Channels of the latents that its norms are conditioned on, as `SpatialNorm`; default: they are group norms. */
  readonly latentChannels?: number | undefined;
  readonly activation: ActivationName;
  /** Groups of the normalisation of the input; a `SpatialNorm` has its own. */
  readonly groups: number;
  /** Groups of the normalisation between the convolutions; default `groups`. */
  readonly outGroups?: number | undefined;
  /** Added to the variance by the normalisations. */
  readonly epsilon: number;
  /** Whether the time embedding scales and shifts what was normalised; default: it is added before that. */
  readonly scalesAndShifts?: boolean | undefined;
  /** Probability of an element between the convolutions to become 0; default 0. */
  readonly dropout?: number | undefined;
  /** What the result is divided by; default 1. */
  readonly outputScale?: number | undefined;
  /** How the resolution changes; default not. */
  readonly resample?: keyof typeof RESAMPLERS | undefined;
  /** Whether the residual connection has a 1x1 convolution; default: where the channels change. */
  readonly hasShortcut?: boolean | undefined;
}

/**
 * diffusers' `ResnetBlock2D`: two convolutions, with the time embedding between them where there is one, and a residual
 * connection. With `latentChannels` it is `ResnetBlockCondNorm2D` with the norm 'spatial'.
 */
export class ResnetBlock implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly norm1: GroupNorm | SpatialNorm;
  private readonly conv1: Conv2d;
  private readonly timeProjection: Linear | undefined;
  private readonly norm2: GroupNorm | SpatialNorm;
  private readonly conv2: Conv2d;
  private readonly shortcut: Conv2d | undefined;
  private readonly activate: (x: Value) => Value;

  constructor(
    private readonly name: string,
    private readonly options: ResnetBlockOptions,
  ) {
    const { inChannels, outChannels, timeChannels, latentChannels, groups, outGroups = groups, epsilon } = options;
    const { hasShortcut = inChannels !== outChannels } = options;
    const norm = (name: string, channels: number, groups: number) =>
      latentChannels === undefined
        ? new GroupNorm(name, groups, channels, epsilon)
        : new SpatialNorm(name, channels, latentChannels);
    this.activate = activation(options.activation);
    this.norm1 = norm(`${name}.norm1`, inChannels, groups);
    this.conv1 = sameConv(`${name}.conv1`, inChannels, outChannels);
    const projected = options.scalesAndShifts ? 2 * outChannels : outChannels;
    this.timeProjection =
      timeChannels === undefined ? undefined : new Linear(`${name}.time_emb_proj`, timeChannels, projected);
    this.norm2 = norm(`${name}.norm2`, outChannels, outGroups);
    this.conv2 = sameConv(`${name}.conv2`, outChannels, outChannels);
    this.shortcut = hasShortcut ? new Conv2d(`${name}.conv_shortcut`, inChannels, outChannels, 1) : undefined;
    const { norm1, conv1, timeProjection, norm2, conv2, shortcut } = this;
    this.parameters = parametersOf([norm1, conv1, timeProjection, norm2, conv2, shortcut]);
  }

  /**
   * @param condition the time embedding after the activation, [batch or 1, timeChannels], or feature maps of the latents;
   * undefined for a block that takes neither.
   * @throws {GraphError} when it takes one and there is none.
   */
  forward(x: Value, condition: Value | undefined, context: ForwardContext): Value {
    const { dropout = 0, outputScale = 1 } = this.options;
    const activated = this.activate(this.normalised(this.norm1, x, condition, context));
    let hidden = this.conv1.forward(this.resampled(activated, context), context);
    hidden = this.timeProjection
      ? this.normWithTime(hidden, this.timeProjection.forward(this.time(condition), context), context)
      : this.normalised(this.norm2, hidden, condition, context);
    hidden = this.conv2.forward(context.dropout(this.activate(hidden), dropout), context);
    const direct = this.resampled(x, context);
    const residual = this.shortcut ? this.shortcut.forward(direct, context) : direct;
    const sum = add(residual, hidden);
    return outputScale === 1 ? sum : mul(sum, scalarLike(sum, 1 / outputScale));
  }

  private resampled(x: Value, { layout }: ForwardContext): Value {
    const { resample } = this.options;
    return resample ? RESAMPLERS[resample](x, layout) : x;
  }

  private normalised(norm: GroupNorm | SpatialNorm, x: Value, condition: Value | undefined, context: ForwardContext) {
    return norm instanceof SpatialNorm ? norm.forward(x, condition, context) : norm.forward(x, context);
  }

  private normWithTime(hidden: Value, time: Value, context: ForwardContext): Value {
    const { perChannel } = context.layout;
    if (!this.options.scalesAndShifts)
      return this.normalised(this.norm2, add(hidden, perChannel(time)), undefined, context);
    const channels = Number(time.shape[1]) / 2;
    const [scale = time, shift = time] = split(time, [channels, channels], 1).map(perChannel);
    const normalised = this.normalised(this.norm2, hidden, undefined, context);
    return add(mul(normalised, add(scale, scalarLike(scale, 1))), shift);
  }

  private time(condition: Value | undefined): Value {
    if (condition) return condition;
    throw new GraphError(`${this.name} takes a time embedding, and got none`);
  }
}
