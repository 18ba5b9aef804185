import { gradients } from '../graph/gradients.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { concat, identity, reshape } from '../graph/ops/index.ts';
import { forwardDiffusion, type TrainingGraphSettings } from './training-graph.ts';

/** What a batch reports, in the order of the output `terms`. */
export const LOSS_TERMS = ['loss', 'base_loss', 'isotropy_penalty', 'isotropy'] as const;

/** The output that holds dL/d(parameter). */
export const gradientName = (parameter: string) => `d/${parameter}`;

/** A batch's forward pass and loss, without gradients. */
export interface LossGraph {
  readonly graph: Graph;
  /** The inputs of the parameters, in the model's order. */
  readonly parameters: ReadonlyMap<string, Value>;
  readonly loss: Value;
  /** float32 [4], the `LOSS_TERMS`. */
  readonly terms: Value;
}

/**
 * Inputs: every parameter under its name; `clean` and `noise` float32 [1, batch, ...], `timestep` int32 [1, batch].
 * For a model with classes also `class_labels` int32 [1, batch].
 */
export function buildLossGraph(settings: TrainingGraphSettings): LossGraph {
  const { model, batchSize, loss, predictionType } = settings;
  const graph = new Graph('gradients');
  const parameters = new Map(
    model.parameters.map(({ name, shape }) => [name, graph.input(name, 'float32', shape)] as const),
  );
  const samples = [1, batchSize, ...model.sampleShape];
  const clean = graph.input('clean', 'float32', samples);
  const noise = graph.input('noise', 'float32', samples);
  const timestep = graph.input('timestep', 'int32', [1, batchSize]);
  const classLabels = model.classCount ? graph.input('class_labels', 'int32', [1, batchSize]) : undefined;
  const { noisy, alphaCumprod } = forwardDiffusion(graph, settings, clean, noise, timestep);
  const step = (value: Value) => reshape(value, value.shape.slice(1).map(Number));
  const terms = loss({
    modelOutput: model.forward(step(noisy), step(timestep), parameters, classLabels && step(classLabels)),
    epsilon: step(noise),
    noisySample: step(noisy),
    cleanSample: step(clean),
    alphaCumprod: step(alphaCumprod),
    predictionType,
  });
  const scalars = [terms.loss, terms.base, terms.isotropyPenalty, terms.isotropy];
  const rows = scalars.map((scalar) => reshape(scalar, [1]));
  return { graph, parameters, loss: terms.loss, terms: concat(rows, 0) };
}

/**
 * Forward and backward pass of one batch, for models so large that parameters and gradients should exist once.
 *
 * Inputs: those of `buildLossGraph`. Outputs: `d/<parameter>` for every parameter, and `terms`, float32 [4], the
 * `LOSS_TERMS`.
 */
export function buildGradientGraph(settings: TrainingGraphSettings): Graph {
  const { graph, parameters, loss, terms } = buildLossGraph(settings);
  const found = gradients(loss, [...parameters.values()]);
  [...parameters.keys()].forEach((name, index) => {
    const gradient = found[index];
    if (gradient) graph.output(gradientName(name), identity(gradient));
  });
  graph.output('terms', terms);
  return graph;
}
