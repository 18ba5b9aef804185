import { GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Conv2dOptions, gemm, relu, silu } from '../graph/ops/index.ts';
import type { ParameterSpec, ParameterValues } from '../models/model.ts';
import type { UNet2DConfig } from '../models/unet-2d/config.ts';
import type { RandomStream } from '../random/random-stream.ts';
import { linearParameters } from './init.ts';
import { channelsFirst, type FeatureMaps, type Projection } from './layouts.ts';

/** A part of the network: its parameters in the order of the state dict. `forward` differs by part. */
export interface Layer {
  readonly parameters: readonly ParameterSpec[];
}

/** What a forward pass is built from: the parameters' values, and the memory order of its feature maps. */
export class ForwardContext {
  constructor(
    private readonly values: ParameterValues,
    readonly maps: FeatureMaps = channelsFirst,
  ) {}

  /** The value of a parameter. @throws {GraphError} when it is missing. */
  parameter(name: string): Value {
    const value = this.values.get(name);
    if (value) return value;
    throw new GraphError(
      `UNet2DModel: parameter '${name}' is missing: pass a value for each of model.parameters`,
    );
  }
}

/** torch's nn.Linear. */
export class Linear implements Layer {
  readonly parameters: readonly ParameterSpec[];

  constructor(
    private readonly name: string,
    inFeatures: number,
    outFeatures: number,
  ) {
    this.parameters = linearParameters(name, inFeatures, outFeatures);
  }

  /** x [rows, inFeatures]. */
  forward(x: Value, context: ForwardContext): Value {
    const { weight, bias } = this.projection(context);
    return gemm(x, weight, bias, { transB: true });
  }

  /** Its weight [outFeatures, inFeatures] and bias [outFeatures]. */
  projection(context: ForwardContext): Projection {
    return {
      weight: context.parameter(`${this.name}.weight`),
      bias: context.parameter(`${this.name}.bias`),
    };
  }
}

/** torch's nn.Conv2d with a square kernel; weight and bias start uniform in +-1/sqrt(fan-in), torch's default. */
export class Conv2d implements Layer {
  readonly parameters: readonly ParameterSpec[];

  constructor(
    private readonly name: string,
    inChannels: number,
    outChannels: number,
    kernel: number,
    private readonly options: Conv2dOptions = {},
  ) {
    const bound = 1 / Math.sqrt(inChannels * kernel * kernel);
    const init = (stream: RandomStream, target: Float32Array) => {
      for (let i = 0; i < target.length; i++) target[i] = bound * (2 * stream.uniform() - 1);
    };
    this.parameters = [
      { name: `${name}.weight`, shape: [outChannels, inChannels, kernel, kernel], isFilter: true, init },
      { name: `${name}.bias`, shape: [outChannels], init },
    ];
  }

  forward(x: Value, context: ForwardContext): Value {
    const filters = context.parameter(`${this.name}.weight`);
    return context.maps.conv2d(x, filters, context.parameter(`${this.name}.bias`), this.options);
  }
}

/** torch's nn.GroupNorm. */
export class GroupNorm implements Layer {
  readonly parameters: readonly ParameterSpec[];

  constructor(
    private readonly name: string,
    private readonly groups: number,
    channels: number,
    private readonly epsilon: number,
  ) {
    this.parameters = [
      { name: `${name}.weight`, shape: [channels], init: (_, target) => target.fill(1) },
      { name: `${name}.bias`, shape: [channels], init: (_, target) => target.fill(0) },
    ];
  }

  forward(x: Value, context: ForwardContext): Value {
    const weight = context.parameter(`${this.name}.weight`);
    return context.maps.groupNorm(
      x,
      this.groups,
      weight,
      context.parameter(`${this.name}.bias`),
      this.epsilon,
    );
  }
}

/** `act_fn` as a function. */
export function activation({ act_fn }: UNet2DConfig): (x: Value) => Value {
  return act_fn === 'relu' ? relu : silu;
}

/** A convolution that keeps the size: 3x3 with a border of one. */
export function sameConv(name: string, inChannels: number, outChannels: number): Conv2d {
  return new Conv2d(name, inChannels, outChannels, 3, { pads: [1, 1, 1, 1] });
}

export function parametersOf(layers: readonly (Layer | undefined)[]): ParameterSpec[] {
  return layers.flatMap((layer) => layer?.parameters ?? []);
}
