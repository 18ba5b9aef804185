import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph } from '../../src/graph/graph.ts';
import type { DiffusionLoss, PredictionType } from '../../src/losses/index.ts';
import { runGraph } from '../models/run-graph.ts';
import { type PlainBatch, plainNoisy } from './plain-losses.ts';

/** The value and the terms of a graph loss and its gradient with respect to the model output, computed by onnxruntime. */
export async function runLoss(
  loss: DiffusionLoss,
  batch: PlainBatch,
  output: ArrayLike<number>,
  predictionType: PredictionType = 'epsilon',
  dtype: 'float32' | 'float64' = 'float64',
) {
  const rows = batch.alphaCumprod.length;
  const data = (values: ArrayLike<number>) =>
    dtype === 'float64' ? Float64Array.from(values) : Float32Array.from(values);
  const graph = new Graph('loss');
  const feeds = {
    model_output: { dtype, shape: [rows, batch.n], data: data(output) },
    epsilon: { dtype, shape: [rows, batch.n], data: data(batch.epsilon) },
    noisy: { dtype, shape: [rows, batch.n], data: data(plainNoisy(batch)) },
    clean: { dtype, shape: [rows, batch.n], data: data(batch.clean) },
    alpha: { dtype, shape: [rows, 1], data: data(batch.alphaCumprod) },
  };
  const input = (name: keyof typeof feeds) => graph.input(name, dtype, feeds[name].shape);
  const modelOutput = input('model_output');
  const { loss: value, terms } = loss({
    modelOutput,
    epsilon: input('epsilon'),
    noisySample: input('noisy'),
    cleanSample: input('clean'),
    alphaCumprod: input('alpha'),
    predictionType,
  });
  graph.output('loss', value);
  for (const [name, term] of Object.entries(terms)) graph.output(name, term);
  gradients(value, [modelOutput]).forEach((gradient) => {
    graph.output('gradient', gradient);
  });

  const outputs = await runGraph(graph, feeds);
  const scalar = (name: string) => outputs[name]?.data[0] ?? Number.NaN;
  return {
    loss: scalar('loss'),
    base: scalar('base_loss'),
    isotropy: scalar('isotropy'),
    isotropyPenalty: scalar('isotropy_penalty'),
    weighted: scalar('weighted_isotropy_penalty'),
    names: Object.keys(terms),
    graph,
    gradient: outputs.gradient?.data ?? [],
  };
}
