import { describe, expect, it } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import { ConditionalDense, exportModelGraph, initialParameters, UNet2DModel } from '../../src/models/index.ts';
import { initialVector, namedViews, withInitialWeights } from '../../src/models/model.ts';
import { tinyUNet, tinyUNetOptions } from './tiny-unet.ts';

describe('exportModelGraph', () => {
  const model = new ConditionalDense({ hidden_features: 4, time_embedding_dim: 4 });
  const name = 'layers.0.linear.weight';

  it('has the inputs, the output and the constants of a saved pipeline', () => {
    const weights = initialParameters(model, 0);
    const graph = exportModelGraph(model, weights);
    expect(graph.inputs.map(({ name, dtype, shape }) => ({ name, dtype, shape }))).toEqual([
      { name: 'sample', dtype: 'float32', shape: ['batch_size', 2] },
      { name: 'timestep', dtype: 'int64', shape: ['timestep_count'] },
    ]);
    expect(graph.outputs.map((output) => [output.name, output.value.shape])).toEqual([
      ['out_sample', ['batch_size', 2]],
    ]);
    const constants = new Map(graph.constants.map((constant) => [constant.name, constant.data]));
    for (const [parameter, values] of weights) expect(constants.get(parameter)).toEqual(values);
  });

  it('refuses weights that do not belong to the model', () => {
    const missing = initialParameters(model, 0);
    missing.delete(name);
    expect(() => exportModelGraph(model, missing)).toThrow(InvalidArgumentError);
    expect(() => exportModelGraph(model, missing)).toThrow(`'${name}'`);

    const short = initialParameters(model, 0).set(name, new Float32Array(3));
    expect(() => exportModelGraph(model, short)).toThrow('needs 8 values of shape [4, 2]');

    const foreign = initialParameters(model, 0).set('conv_in.weight', new Float32Array(3));
    expect(() => exportModelGraph(model, foreign)).toThrow("'conv_in.weight'");
  });
});

describe('namedViews', () => {
  const model = new ConditionalDense({ hidden_features: 4, time_embedding_dim: 4 });

  it('names the pieces of a vector in the order of the state dict, without a copy', () => {
    const vector = initialVector(model, 3);
    const views = namedViews(model.parameters, vector);
    expect(views).toEqual(initialParameters(model, 3));
    views.get('layers.0.linear.weight')?.fill(7);
    expect(vector.slice(0, 9)).toEqual(Float32Array.of(7, 7, 7, 7, 7, 7, 7, 7, vector[8] ?? 0));
  });

  it('refuses a vector of another length', () => {
    expect(() => namedViews(model.parameters, new Float32Array(3))).toThrow(/but the vector has 3/);
  });

  it('refuses parameters of one name', () => {
    const parameters = [...model.parameters, ...model.parameters.slice(1, 2)];
    expect(() => initialVector({ parameters }, 0)).toThrow("two parameters are called 'layers.0.linear.bias'");
  });
});

describe('a model that begins from given weights', () => {
  const dense = new ConditionalDense({ hidden_features: 4, time_embedding_dim: 4 });
  const unet = tinyUNet();

  it('has them as its initial values, and is otherwise the same', () => {
    const weights = initialParameters(dense, 3);
    const tuned = withInitialWeights(dense, weights);
    expect(initialParameters(tuned, 0)).toEqual(weights);
    expect(tuned.config).toBe(dense.config);
    const images = initialParameters(unet, 3);
    expect(initialParameters(new UNet2DModel(tinyUNetOptions, images), 0)).toEqual(images);
  });

  it.each<[string, (weights: Map<string, Float32Array>) => unknown, RegExp]>([
    ['lack a tensor', (weights) => weights.delete([...weights.keys()][0] ?? ''), /no such tensor/],
    ['have one besides', (weights) => weights.set('extra', new Float32Array(1)), /'extra'/],
    ['have one of another size', (weights) => weights.set([...weights.keys()][0] ?? '', new Float32Array(1)), /1$/],
  ])('refuses weights that %s', (_, spoil, message) => {
    const weights = initialParameters(dense, 0);
    spoil(weights);
    expect(() => withInitialWeights(dense, weights)).toThrow(InvalidArgumentError);
    expect(() => withInitialWeights(dense, weights)).toThrow(message);
    const images = initialParameters(unet, 0);
    spoil(images);
    expect(() => new UNet2DModel(tinyUNetOptions, images)).toThrow(ConfigError);
    expect(() => new UNet2DModel(tinyUNetOptions, images)).toThrow(message);
  });
});
