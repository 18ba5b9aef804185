import { z } from 'zod';
import { ConfigError, GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { add, gather, gemm, relu } from '../graph/ops/index.ts';
import { formatShape } from '../graph/types.ts';
import { linearParameters } from '../nn/init.ts';
import { sinusoidalTable } from '../nn/sinusoidal-table.ts';
import type { DiffusionModel, ParameterSpec, ParameterValues } from './model.ts';

const featureCount = z.int().min(1).max(8192);
const configSchema = z.strictObject({
  in_features: featureCount.default(2),
  hidden_features: featureCount.default(128),
  num_hidden_layers: z.int().min(1).max(64).default(3),
  time_embedding_dim: featureCount.optional(),
  num_train_timesteps: z.int().min(1).max(10_000).default(1000),
});

/** Options of `ConditionalDense`; every one may be left out. */
export type ConditionalDenseOptions = z.input<typeof configSchema>;

export interface ConditionalDenseConfig {
  readonly _class_name: 'ConditionalDense';
  /** Dimensions of a point, 1 to 8192; default 2. */
  readonly in_features: number;
  /** Width of the hidden layers, 1 to 8192; default 128. */
  readonly hidden_features: number;
  /** 1 to 64; default 3. */
  readonly num_hidden_layers: number;
  /** Length of the sinusoidal encoding of t, 1 to 8192; default `hidden_features`. */
  readonly time_embedding_dim: number;
  /** T, 1 to 10000; default 1000. */
  readonly num_train_timesteps: number;
}

/**
 * The paper's network for points: dense layers of equal width with ReLU and a dense output layer. To every layer, the
 * output layer included, an embedding of the timestep is added before the activation: the sinusoidal encoding of
 * t = timestep + 1 through two dense layers with ReLU between them (as in the first author's public 2-D code).
 *
 * State dict, torch's layout: `layers.{i}.linear.{weight,bias}`, `layers.{i}.time_embedding.{0,2}.{weight,bias}`;
 * weights are [out, in]; the last layer is the output layer.
 *
 * @example
 * const model = new ConditionalDense({ in_features: 2 });
 * model.parameters.length; // 24
 */
export class ConditionalDense implements DiffusionModel {
  readonly config: ConditionalDenseConfig;
  readonly parameters: readonly ParameterSpec[];
  readonly sampleShape: readonly number[];

  /** @throws {ConfigError} when an option is unknown or out of range. */
  constructor(options: ConditionalDenseOptions = {}) {
    this.config = parseOptions(options);
    this.sampleShape = [this.config.in_features];
    this.parameters = layerWidths(this.config).flatMap((width, index) => this.layerParameters(index, width));
  }

  /**
   * Builds the model of a parsed `config.json`. Keys that begin with `_` are notes of the writing library and ignored.
   *
   * @throws {ConfigError} when `_class_name` is another class, or a key is unknown or out of range.
   */
  static fromConfig(json: unknown): ConditionalDense {
    if (typeof json !== 'object' || json === null || Array.isArray(json))
      throw new ConfigError(`a ConditionalDense config must be a JSON object, not ${describe(json)}`);
    const className = '_class_name' in json ? json._class_name : undefined;
    if (className !== 'ConditionalDense')
      throw new ConfigError(
        `expected a config with "_class_name": "ConditionalDense", but it is ${describe(className)}`,
      );
    const options = Object.entries(json).filter(([key]) => !key.startsWith('_'));
    return new ConditionalDense(Object.fromEntries(options));
  }

  /** See `DiffusionModel.forward`: sample [batch, in_features], timestep [batch] or [1] in 0..num_train_timesteps-1. */
  forward(sample: Value, timestep: Value, parameters: ParameterValues): Value {
    if (sample.shape.length !== 2 || sample.shape[1] !== this.config.in_features)
      throw new GraphError(
        `ConditionalDense: the sample must be [batch, ${this.config.in_features}], but is ${formatShape(sample.shape)}`,
      );
    const encoding = this.encodeTimesteps(sample, timestep);
    const outputLayer = this.config.num_hidden_layers;
    let hidden = sample;
    for (let layer = 0; layer <= outputLayer; layer++) {
      const sum = denseWithTime(`layers.${layer}`, hidden, encoding, parameters);
      hidden = layer < outputLayer ? relu(sum) : sum;
    }
    return hidden;
  }

  private layerParameters(index: number, outFeatures: number): ParameterSpec[] {
    const { in_features, hidden_features, time_embedding_dim } = this.config;
    return [
      ...linearParameters(`layers.${index}.linear`, index === 0 ? in_features : hidden_features, outFeatures),
      ...linearParameters(`layers.${index}.time_embedding.0`, time_embedding_dim, outFeatures),
      ...linearParameters(`layers.${index}.time_embedding.2`, outFeatures, outFeatures),
    ];
  }

  /** One row of the table a timestep: [timesteps, time_embedding_dim]. */
  private encodeTimesteps(sample: Value, timestep: Value): Value {
    const { num_train_timesteps, time_embedding_dim } = this.config;
    const table = sinusoidalTable(num_train_timesteps, time_embedding_dim);
    const data = sample.dtype === 'float64' ? table : Float32Array.from(table);
    const rows = timestep.graph.constant(sample.dtype, [num_train_timesteps, time_embedding_dim], data);
    return gather(rows, timestep);
  }
}

/**
 * hidden W^T + b + embedding(t). Both biases are summed as vectors and enter through the additive inputs of the two
 * Gemms, so that the layer costs no elementwise pass over the batch, forward or backward.
 */
function denseWithTime(name: string, hidden: Value, encoding: Value, parameters: ParameterValues): Value {
  const parameter = (suffix: string) => findParameter(parameters, `${name}.${suffix}`);
  const linear = (x: Value, weight: string, bias: Value) =>
    gemm(x, parameter(weight), bias, { transB: true });
  const embedded = relu(linear(encoding, 'time_embedding.0.weight', parameter('time_embedding.0.bias')));
  const bias = add(parameter('linear.bias'), parameter('time_embedding.2.bias'));
  return linear(hidden, 'linear.weight', linear(embedded, 'time_embedding.2.weight', bias));
}

function findParameter(parameters: ParameterValues, name: string): Value {
  const value = parameters.get(name);
  if (value) return value;
  throw new GraphError(
    `ConditionalDense: parameter '${name}' is missing: pass a value for each of model.parameters`,
  );
}

function parseOptions(options: ConditionalDenseOptions): ConditionalDenseConfig {
  const parsed = configSchema.safeParse(options);
  if (!parsed.success)
    throw new ConfigError(`wrong ConditionalDense config: ${z.prettifyError(parsed.error)}`);
  const { hidden_features, time_embedding_dim = hidden_features } = parsed.data;
  return { _class_name: 'ConditionalDense', ...parsed.data, time_embedding_dim };
}

/** Output widths of all layers: the hidden ones, then the output layer. */
function layerWidths(config: ConditionalDenseConfig): number[] {
  return [...Array<number>(config.num_hidden_layers).fill(config.hidden_features), config.in_features];
}

function describe(value: unknown): string {
  return value === undefined ? 'missing' : (JSON.stringify(value) ?? typeof value).slice(0, 80);
}
