import type { Value } from '../graph/graph.ts';
import type { RandomStream } from '../random/random-stream.ts';

/** One tensor of a model, named as in the model's state dict. */
export interface ParameterSpec {
  /** The name in the state dict, such as `conv_in.weight`. */
  readonly name: string;
  /** Its shape, in torch's order of axes. */
  readonly shape: readonly number[];
  /** Whether it holds a convolution's filters, [out, in, height, width], whose axes a `Layout` may reorder. Default false. */
  readonly isFilter?: boolean | undefined;
  /** Whether training leaves it as it is. The forward pass must then pass no gradient on to it. Default false. */
  readonly isFrozen?: boolean | undefined;
  /** Fills `target`, which has the parameter's size, with initial values drawn from `stream`. */
  init(stream: RandomStream, target: Float32Array): void;
}

/** How a parameter is initialised; see `ParameterSpec.init`. */
export type Initializer = ParameterSpec['init'];

/** The graph values that hold a model's parameters, by name. */
export type ParameterValues = ReadonlyMap<string, Value>;

/** A part of a network: its parameters in the order of the state dict. Its `forward` takes what the part needs. */
export interface Layer {
  /** Its tensors, in the order of the state dict; empty where it has none. */
  readonly parameters: readonly ParameterSpec[];
}

/**
 * The parameters of several layers, in their order; undefined layers have none.
 *
 * @example
 * this.parameters = parametersOf([this.embed, ...this.blocks, this.head]);
 */
export function parametersOf(layers: readonly (Layer | undefined)[]): ParameterSpec[] {
  return layers.flatMap((layer) => layer?.parameters ?? []);
}

/** Uniform in +-1/sqrt(fanIn): torch's default for dense layers and convolutions, `kaiming_uniform_(a=sqrt(5))`. */
export function uniformByFanIn(fanIn: number): Initializer {
  const bound = 1 / Math.sqrt(fanIn);
  return (stream, target) => {
    for (let i = 0; i < target.length; i++) target[i] = bound * (2 * stream.uniform() - 1);
  };
}

/** Normal with mean 0. @param std the standard deviation; default 1. */
export function normal(std = 1): Initializer {
  return (stream, target) => {
    stream.fillNormal(target);
    if (std !== 1) for (let i = 0; i < target.length; i++) target[i] = std * (target[i] ?? 0);
  };
}

/** All values 0, as for layers that should do nothing at first. */
export const zeros: Initializer = (_stream, target) => {
  target.fill(0);
};

/** All values 1. */
export const ones: Initializer = (_stream, target) => {
  target.fill(1);
};
