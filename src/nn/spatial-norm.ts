import { GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { add, mul } from '../graph/ops/elementwise.ts';
import type { ForwardContext } from './context.ts';
import { Conv2d, GroupNorm } from './layers.ts';
import { type Layer, type ParameterSpec, parametersOf } from './parameters.ts';

/** The groups of a `SpatialNorm`, whatever else the model is configured to. */
export const SPATIAL_NORM_GROUPS = 32;

/**
 * diffusers' `SpatialNorm` (Zheng et al. 2022, https://arxiv.org/abs/2209.09002): group normalisation that is scaled and
 * shifted by 1x1 convolutions of the latents. These convolutions are done at the size of the latents, and their results
 * enlarged, which gives the same as the other order.
 */
export class SpatialNorm implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly norm: GroupNorm;
  private readonly scale: Conv2d;
  private readonly shift: Conv2d;

  constructor(
    private readonly name: string,
    channels: number,
    latentChannels: number,
  ) {
    this.norm = new GroupNorm(`${name}.norm_layer`, SPATIAL_NORM_GROUPS, channels, 1e-6);
    this.scale = new Conv2d(`${name}.conv_y`, latentChannels, channels, 1);
    this.shift = new Conv2d(`${name}.conv_b`, latentChannels, channels, 1);
    this.parameters = parametersOf([this.norm, this.scale, this.shift]);
  }

  /**
   * @param latents feature maps of `latentChannels`, whose sides double to those of `x` in whole steps.
   * @throws {GraphError} when there are none.
   */
  forward(x: Value, latents: Value | undefined, context: ForwardContext): Value {
    if (!latents) throw new GraphError(`${this.name} is conditioned on latents, and got none`);
    const enlarged = (maps: Value) => enlargedTo(x, maps, context);
    const normalised = this.norm.forward(x, context);
    return add(
      mul(normalised, enlarged(this.scale.forward(latents, context))),
      enlarged(this.shift.forward(latents, context)),
    );
  }
}

/** Nearest neighbours. */
function enlargedTo(x: Value, maps: Value, { layout }: ForwardContext): Value {
  const [, , heightAxis = 0] = layout.imageAxes;
  const height = (value: Value) => Number(value.shape[heightAxis]);
  let enlarged = maps;
  while (height(enlarged) < height(x)) enlarged = layout.upsampleNearest2x(enlarged);
  return enlarged;
}
