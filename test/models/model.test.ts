import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { ConditionalDense, exportModelGraph, initialParameters } from '../../src/models/index.ts';

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
