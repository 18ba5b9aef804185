import { ConfigError, GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { add, relu } from '../graph/ops/elementwise.ts';
import { gather } from '../graph/ops/indexing.ts';
import { formatShape, toTensorData } from '../graph/types.ts';
import type { ForwardContext } from '../nn/context.ts';
import { Linear } from '../nn/layers.ts';
import { type Layer, type ParameterSpec, parametersOf } from '../nn/parameters.ts';
import { sinusoidalTable } from '../nn/time-embedding.ts';
import { type Complete, type Fields, parseOptions } from '../options.ts';
import * as z from '../zod.ts';
import { configOptions, type DiffusionModel, type ModelInputs } from './model.ts';

const featureCount = z.int().check(z.gte(1), z.lte(8192));

/** Options of `ConditionalDense`; every one may be left out. */
export interface ConditionalDenseOptions {
  /** Dimensions of a point, 1 to 8192; default 2. */
  readonly in_features?: number | undefined;
  /** Width of the hidden layers, 1 to 8192; default 128. */
  readonly hidden_features?: number | undefined;
  /** Hidden layers, 1 to 64; default 3. */
  readonly num_hidden_layers?: number | undefined;
  /** Length of the sinusoidal encoding of the timestep, 1 to 8192; default `hidden_features`. */
  readonly time_embedding_dim?: number | undefined;
  /** T, the timesteps of the forward process, 1 to 10,000; default 1000. */
  readonly num_train_timesteps?: number | undefined;
}

const configSchema = z.strictObject({
  in_features: z._default(featureCount, 2),
  hidden_features: z._default(featureCount, 128),
  num_hidden_layers: z._default(z.int().check(z.gte(1), z.lte(64)), 3),
  time_embedding_dim: z.optional(featureCount),
  num_train_timesteps: z._default(z.int().check(z.gte(1), z.lte(10_000)), 1000),
} satisfies Fields<ConditionalDenseOptions>);

/** The whole configuration, as it is written to `config.json`. */
export type ConditionalDenseConfig = Complete<ConditionalDenseOptions> & {
  /** The class, by its name in `models`. */
  readonly _class_name: 'ConditionalDense';
};

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
  private readonly layers: readonly TimedLinear[];

  /** @throws {ConfigError} when an option is unknown or out of range. */
  constructor(options: ConditionalDenseOptions = {}) {
    this.config = resolveOptions(options);
    this.sampleShape = [this.config.in_features];
    const { in_features, hidden_features, num_hidden_layers, time_embedding_dim } = this.config;
    this.layers = Array.from({ length: num_hidden_layers + 1 }, (_, index) => {
      const inFeatures = index === 0 ? in_features : hidden_features;
      const outFeatures = index === num_hidden_layers ? in_features : hidden_features;
      return new TimedLinear(`layers.${index}`, inFeatures, outFeatures, time_embedding_dim);
    });
    this.parameters = parametersOf(this.layers);
  }

  /** Builds the model of a parsed `config.json`. @throws {ConfigError} as the constructor, or for another class. */
  static fromConfig(json: unknown): ConditionalDense {
    return new ConditionalDense(configOptions(json, 'ConditionalDense'));
  }

  /** See `DiffusionModel.forward`: sample [batch, in_features], timestep [batch] or [1] in 0..num_train_timesteps-1. */
  forward({ sample, timestep }: ModelInputs, context: ForwardContext): Value {
    if (sample.shape.length !== 2 || sample.shape[1] !== this.config.in_features)
      throw new GraphError(
        `ConditionalDense: the sample must be [batch, ${this.config.in_features}], but is ${formatShape(sample.shape)}`,
      );
    const table = this.encodings(sample);
    const [batch] = timestep.shape;
    // In a batch of more samples than there are timesteps, most share theirs with others.
    const areShared = typeof batch === 'number' && batch > this.config.num_train_timesteps;
    const encoding = areShared ? table : gather(table, timestep);
    return this.layers.reduce((hidden, layer, index) => {
      const sum = layer.forward(hidden, encoding, context, areShared ? timestep : undefined);
      return index < this.config.num_hidden_layers ? relu(sum) : sum;
    }, sample);
  }

  /** Of all timesteps: [num_train_timesteps, time_embedding_dim]. */
  private encodings({ graph, dtype }: Value): Value {
    const { num_train_timesteps, time_embedding_dim } = this.config;
    const data = toTensorData(dtype, sinusoidalTable(num_train_timesteps, time_embedding_dim));
    return graph.constant(dtype, [num_train_timesteps, time_embedding_dim], data);
  }
}

/** A dense layer whose result has an embedding of the timestep added. */
class TimedLinear implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly linear: Linear;
  private readonly time1: Linear;
  private readonly time2: Linear;

  constructor(name: string, inFeatures: number, outFeatures: number, timeFeatures: number) {
    this.linear = new Linear(`${name}.linear`, inFeatures, outFeatures);
    this.time1 = new Linear(`${name}.time_embedding.0`, timeFeatures, outFeatures);
    this.time2 = new Linear(`${name}.time_embedding.2`, outFeatures, outFeatures);
    this.parameters = parametersOf([this.linear, this.time1, this.time2]);
  }

  /**
   * Both biases are summed as vectors and enter through the additive inputs of the two Gemms, so the layer costs no
   * elementwise pass over the batch, forward or backward.
   *
   * @param rows which of the encodings belongs to each sample; default: there is one for each.
   */
  forward(x: Value, encoding: Value, context: ForwardContext, rows?: Value): Value {
    const embedded = relu(this.time1.forward(encoding, context));
    const bias = add(this.linear.bias(context), this.time2.bias(context));
    const embedding = this.time2.forward(embedded, context, bias);
    return this.linear.forward(x, context, rows ? gather(embedding, rows) : embedding);
  }
}

function resolveOptions(options: ConditionalDenseOptions): ConditionalDenseConfig {
  const checked = parseOptions(configSchema, options, 'ConditionalDense config', ConfigError);
  const { hidden_features, time_embedding_dim = hidden_features } = checked;
  return { _class_name: 'ConditionalDense', ...checked, time_embedding_dim };
}
