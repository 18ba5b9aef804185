import { expect, it } from 'vitest';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/index.ts';
import { ForwardContext } from '../../src/nn/context.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { plainForward } from './plain-conditional-dense.ts';
import { relativeError, runGraph } from './run-graph.ts';

const LAMBDA = 0.3;
const BATCH = 6;
const options = { in_features: 2, hidden_features: 5, num_hidden_layers: 2, time_embedding_dim: 4 };
const { parameters: specs } = new ConditionalDense(options);
const stream = new RandomStream(11);
const normals = (length: number) => stream.fillNormal(new Float64Array(length));
const weights = new Map(specs.map(({ name, shape }) => [name, normals(shape.reduce((a, b) => a * b, 1))]));
const sample = normals(BATCH * 2);
const epsilon = normals(BATCH * 2);

/** Eq. 27 with plain loops on the plain network. */
function plainIsoLoss(values: ReadonlyMap<string, Float64Array>, timesteps: readonly number[]): number {
  const network = { inFeatures: 2, hiddenFeatures: 5, hiddenLayers: 2, timeEmbeddingDim: 4, weights: values };
  const output = plainForward(network, sample, timesteps);
  const mean = (of: (value: number, i: number) => number) =>
    output.reduce((sum, value, i) => sum + of(value, i), 0) / output.length;
  return mean((p, i) => (p - Number(epsilon[i])) ** 2) + LAMBDA * (mean((p) => p * p) - 1) ** 2;
}

function centralDifferences(name: string, timesteps: readonly number[], h = 1e-6): Float64Array {
  const values = weights.get(name) ?? new Float64Array();
  return values.map((value, i) => {
    const lossAt = (moved: number) => plainIsoLoss(new Map(weights).set(name, values.with(i, moved)), timesteps);
    return (lossAt(value + h) - lossAt(value - h)) / (2 * h);
  });
}

it.each([
  ['a timestep a row', 20, [0, 3, 7, 11, 18, 19]],
  ['one timestep', 20, [7]],
  ['more rows than timesteps', 4, [3, 0, 3, 2, 3, 0]],
])(
  'gradients of the iso loss equal central differences in float64 for every parameter: %s',
  async (_, count, steps) => {
    const model = new ConditionalDense({ ...options, num_train_timesteps: count });
    const timesteps = Array.from({ length: BATCH }, (_, row) => steps[row % steps.length] ?? 0);
    const graph = new Graph('training');
    const f64 = (name: string, shape: readonly number[]) => graph.input(name, 'float64', shape);
    const parameters = new Map<string, Value>(model.parameters.map(({ name, shape }) => [name, f64(name, shape)]));
    const noisySample = f64('sample', [BATCH, 2]);
    const target = f64('epsilon', [BATCH, 2]);
    const timestep = graph.input('timestep', 'int64', [steps.length]);
    const { loss } = isoLoss({ lambda: LAMBDA })({
      modelOutput: model.forward({ sample: noisySample, timestep }, new ForwardContext(parameters)),
      epsilon: target,
      noisySample,
      cleanSample: noisySample,
      alphaCumprod: graph.constant('float64', [1, 1], Float64Array.of(0.5)),
      predictionType: 'epsilon',
    });
    graph.output('loss', loss);
    const names = [...parameters.keys()];
    gradients(loss, [...parameters.values()]).forEach((gradient, i) => {
      graph.output(`grad/${names[i]}`, gradient);
    });

    const outputs = await runGraph(graph, {
      sample: { dtype: 'float64', shape: [BATCH, 2], data: sample },
      epsilon: { dtype: 'float64', shape: [BATCH, 2], data: epsilon },
      timestep: { dtype: 'int64', shape: [steps.length], data: BigInt64Array.from(steps, BigInt) },
      ...Object.fromEntries(
        model.parameters.map(({ name, shape }) => [
          name,
          { dtype: 'float64' as const, shape, data: weights.get(name) ?? new Float64Array() },
        ]),
      ),
    });

    expect(relativeError(outputs.loss?.data ?? [], [plainIsoLoss(weights, timesteps)])).toBeLessThan(1e-12);
    // A step of 1e-6 leaves truncation ~1e-12 and rounding ~1e-10 of the loss: 1e-6 is far above both, and far below
    // what any wrong factor in a rule would give.
    for (const name of names) {
      const actual = outputs[`grad/${name}`];
      expect(actual?.shape, name).toEqual(parameters.get(name)?.shape);
      expect(relativeError(actual?.data ?? [], centralDifferences(name, timesteps)), name).toBeLessThan(1e-6);
    }
  },
);
