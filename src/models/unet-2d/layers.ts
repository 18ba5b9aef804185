import { GraphError } from '../../errors.ts';
import type { Value } from '../../graph/graph.ts';
import { type Conv2dOptions, conv2d, gemm, groupNorm, relu, silu } from '../../graph/ops/index.ts';
import type { RandomStream } from '../../random/random-stream.ts';
import { linearParameters } from '../linear-init.ts';
import type { ParameterSpec, ParameterValues } from '../model.ts';
import type { UNet2DConfig } from './config.ts';

/** A part of the network: its parameters in the order of the state dict. `forward` differs by part. */
export interface Layer {
  readonly parameters: readonly ParameterSpec[];
}

/** The value of a parameter. @throws {GraphError} when it is missing. */
export function parameter(values: ParameterValues, name: string): Value {
  const value = values.get(name);
  if (value) return value;
  throw new GraphError(
    `UNet2DModel: parameter '${name}' is missing: pass a value for each of model.parameters`,
  );
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
  forward(x: Value, values: ParameterValues): Value {
    return gemm(x, this.weight(values), this.bias(values), { transB: true });
  }

  /** [outFeatures, inFeatures]. */
  weight(values: ParameterValues): Value {
    return parameter(values, `${this.name}.weight`);
  }

  bias(values: ParameterValues): Value {
    return parameter(values, `${this.name}.bias`);
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
      { name: `${name}.weight`, shape: [outChannels, inChannels, kernel, kernel], init },
      { name: `${name}.bias`, shape: [outChannels], init },
    ];
  }

  forward(x: Value, values: ParameterValues): Value {
    const weight = parameter(values, `${this.name}.weight`);
    return conv2d(x, weight, parameter(values, `${this.name}.bias`), this.options);
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

  forward(x: Value, values: ParameterValues): Value {
    const weight = parameter(values, `${this.name}.weight`);
    return groupNorm(x, this.groups, weight, parameter(values, `${this.name}.bias`), this.epsilon);
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
