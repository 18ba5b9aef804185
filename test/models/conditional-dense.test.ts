import { describe, expect, it } from 'vitest';
import { ConfigError, GraphError } from '../../src/errors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { ConditionalDense, exportModelGraph, initialParameters, modelFromConfig } from '../../src/models/index.ts';
import { ForwardContext } from '../../src/nn/context.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { plainForward } from './plain-conditional-dense.ts';
import { relativeError, runGraph } from './run-graph.ts';

// float32 sums of up to 128 products: rounding of about 128 * 2^-24 at the worst, 1e-6 in practice.
const FLOAT32_TOLERANCE = 5e-6;

function plainNetwork(model: ConditionalDense, weights: ReadonlyMap<string, ArrayLike<number>>) {
  const { config } = model;
  return {
    inFeatures: config.in_features,
    hiddenFeatures: config.hidden_features,
    hiddenLayers: config.num_hidden_layers,
    timeEmbeddingDim: config.time_embedding_dim,
    weights,
  };
}

async function runModel(
  model: ConditionalDense,
  weights: ReadonlyMap<string, Float32Array>,
  points: Float32Array,
  timesteps: readonly number[],
) {
  const { out_sample } = await runGraph(exportModelGraph(model, weights), {
    sample: {
      dtype: 'float32',
      shape: [points.length / model.config.in_features, model.config.in_features],
      data: points,
    },
    timestep: {
      dtype: 'int64',
      shape: [timesteps.length],
      data: BigInt64Array.from(timesteps, BigInt),
    },
  });
  return out_sample;
}

describe('ConditionalDense.forward', () => {
  const configs = {
    paper: {},
    'three dimensions': { in_features: 3, hidden_features: 32, num_hidden_layers: 2 },
    'odd encoding, one hidden layer': {
      in_features: 1,
      hidden_features: 7,
      num_hidden_layers: 1,
      time_embedding_dim: 9,
      num_train_timesteps: 50,
    },
  };

  it.each(Object.entries(configs))('equals plain float64 loops, a timestep a row: %s', async (_, options) => {
    const model = new ConditionalDense(options);
    const weights = initialParameters(model, 3);
    const last = model.config.num_train_timesteps - 1;
    const timesteps = [0, 1, 7, last - 1, last];
    const points = new RandomStream(1).fillNormal(new Float32Array(5 * model.config.in_features));

    const output = await runModel(model, weights, points, timesteps);

    const expected = plainForward(plainNetwork(model, weights), points, timesteps);
    expect(output?.shape).toEqual([5, model.config.in_features]);
    expect(relativeError(output?.data ?? [], expected)).toBeLessThan(FLOAT32_TOLERANCE);
  });

  it('broadcasts one timestep over the batch', async () => {
    const model = new ConditionalDense();
    const weights = initialParameters(model, 3);
    const points = new RandomStream(2).fillNormal(new Float32Array(6));

    const output = await runModel(model, weights, points, [412]);

    const expected = plainForward(plainNetwork(model, weights), points, [412, 412, 412]);
    expect(relativeError(output?.data ?? [], expected)).toBeLessThan(FLOAT32_TOLERANCE);
  });

  it('refuses a sample of the wrong width and missing parameters', () => {
    const model = new ConditionalDense({ in_features: 2 });
    const graph = new Graph('test');
    const timestep = graph.input('timestep', 'int64', [1]);
    const wide = graph.input('wide', 'float32', [4, 3]);
    const sample = graph.input('sample', 'float32', [4, 2]);
    const context = new ForwardContext(new Map());
    expect(() => model.forward({ sample: wide, timestep }, context)).toThrow(GraphError);
    expect(() => model.forward({ sample: wide, timestep }, context)).toThrow('[4, 3]');
    expect(() => model.forward({ sample, timestep }, context)).toThrow("'layers.0.time_embedding.0.bias' is missing");
  });
});

describe('ConditionalDense.parameters', () => {
  it('has the names and shapes of a torch state dict', () => {
    const model = new ConditionalDense({ in_features: 3, hidden_features: 8, time_embedding_dim: 6 });
    const shapes = Object.fromEntries(model.parameters.map(({ name, shape }) => [name, shape]));
    expect(Object.keys(shapes)).toHaveLength(4 * 6);
    expect(shapes).toMatchObject({
      'layers.0.linear.weight': [8, 3],
      'layers.0.linear.bias': [8],
      'layers.0.time_embedding.0.weight': [8, 6],
      'layers.0.time_embedding.0.bias': [8],
      'layers.0.time_embedding.2.weight': [8, 8],
      'layers.2.linear.weight': [8, 8],
      'layers.3.linear.weight': [3, 8],
      'layers.3.time_embedding.0.weight': [3, 6],
      'layers.3.time_embedding.2.weight': [3, 3],
      'layers.3.time_embedding.2.bias': [3],
    });
  });

  it('starts uniform in +-1/sqrt(fan-in), as torch.nn.Linear', () => {
    const weights = initialParameters(new ConditionalDense(), 0);
    for (const name of ['layers.1.linear.weight', 'layers.2.time_embedding.0.weight']) {
      const values = weights.get(name) ?? new Float32Array();
      const bound = 1 / Math.sqrt(128);
      const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
      const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length;
      expect(values).toHaveLength(128 * 128);
      expect(Math.max(...values)).toBeLessThanOrEqual(bound);
      expect(Math.max(...values)).toBeGreaterThan(0.999 * bound);
      expect(Math.min(...values)).toBeLessThan(-0.999 * bound);
      // 16,384 draws: the mean's standard error is bound / sqrt(3 * 16384) = 0.0045 bound, the variance's 0.7 %.
      expect(Math.abs(mean)).toBeLessThan(0.018 * bound);
      expect(Math.abs(variance / (bound ** 2 / 3) - 1)).toBeLessThan(0.028);
    }
  });

  it('depends on the seed and differs between tensors of one shape', () => {
    const model = new ConditionalDense();
    expect(initialParameters(model, 5)).toEqual(initialParameters(model, 5));
    const weights = initialParameters(model, 5);
    expect(initialParameters(model, 6).get('layers.1.linear.weight')).not.toEqual(
      weights.get('layers.1.linear.weight'),
    );
    expect(weights.get('layers.1.linear.weight')).not.toEqual(weights.get('layers.2.linear.weight'));
  });
});

describe('ConditionalDense.config', () => {
  it('has the defaults of the paper and survives a JSON round trip', () => {
    const config = {
      _class_name: 'ConditionalDense',
      in_features: 2,
      hidden_features: 128,
      num_hidden_layers: 3,
      time_embedding_dim: 128,
      num_train_timesteps: 1000,
    };
    expect(new ConditionalDense().config).toEqual(config);
    const custom = new ConditionalDense({ in_features: 5, hidden_features: 16 });
    expect(custom.config.time_embedding_dim).toBe(16);
    const read = modelFromConfig(JSON.parse(JSON.stringify(custom.config)));
    expect(read).toBeInstanceOf(ConditionalDense);
    expect(read.config).toEqual(custom.config);
    expect(ConditionalDense.fromConfig({ ...config, _library_version: '0.1.0' }).config).toEqual(config);
  });

  it.each([
    ['a string', 'ConditionalDense'],
    ['null', null],
    ['an array', []],
    ['no class', {}],
    ['another class', { _class_name: 'Transformer2DModel' }],
    ['an unknown key', { _class_name: 'ConditionalDense', widht: 3 }],
    ['a fraction', { _class_name: 'ConditionalDense', hidden_features: 1.5 }],
    ['zero', { _class_name: 'ConditionalDense', in_features: 0 }],
    ['a huge size', { _class_name: 'ConditionalDense', hidden_features: 1e9 }],
    ['text', { _class_name: 'ConditionalDense', num_hidden_layers: '3' }],
    ['NaN', { _class_name: 'ConditionalDense', num_train_timesteps: Number.NaN }],
  ])('refuses %s', (_, json) => {
    expect(() => ConditionalDense.fromConfig(json)).toThrow(ConfigError);
    expect(() => modelFromConfig(json)).toThrow(ConfigError);
  });

  it('names the key that is wrong', () => {
    expect(() => new ConditionalDense({ hidden_features: -1 })).toThrow('hidden_features');
  });
});
