import type { Graph, Value } from '../../graph/graph.ts';
import { add, type DropoutNumbers, gather, mul, reshape, unsqueeze } from '../../graph/ops/index.ts';
import { type DropoutInput, DropoutInputs } from './dropout-inputs.ts';
import type { TrainingGraphSettings } from './training-graph.ts';

/** One batch: samples are [batch, ...], timestep and labels [batch], alphaCumprod [batch, 1, ...]. */
export interface GraphBatch {
  readonly noisySample: Value;
  readonly cleanSample: Value;
  readonly noise: Value;
  readonly timestep: Value;
  readonly classLabels: Value | undefined;
  readonly alphaCumprod: Value;
  /** For a model with dropout. */
  readonly dropoutNumbers: DropoutNumbers;
}

/**
 * Adds the inputs of one batch to a graph: `clean` and `noise` float32 [1, batch, ...], `timestep` int32 [1, batch], for
 * a model with classes `class_labels` int32 [1, batch]. For one with dropout, `dropouts` fills up with further inputs as
 * the model asks for its numbers.
 */
export function declareBatch(
  graph: Graph,
  settings: TrainingGraphSettings,
): { readonly batch: GraphBatch; readonly dropouts: readonly DropoutInput[] } {
  const { model, batchSize } = settings;
  const samples = [1, batchSize, ...model.sampleShape];
  const clean = graph.input('clean', 'float32', samples);
  const noise = graph.input('noise', 'float32', samples);
  const timestep = graph.input('timestep', 'int32', [1, batchSize]);
  const labels = model.classCount ? graph.input('class_labels', 'int32', [1, batchSize]) : undefined;
  const { noisy, alphaCumprod } = forwardDiffusion(graph, settings, clean, noise, timestep);
  const dropouts = new DropoutInputs(graph, 1);
  const batch = {
    noisySample: onlyStep(noisy),
    cleanSample: onlyStep(clean),
    noise: onlyStep(noise),
    timestep: onlyStep(timestep),
    classLabels: labels && onlyStep(labels),
    alphaCumprod: onlyStep(alphaCumprod),
    dropoutNumbers: (length: number) => onlyStep(dropouts.declare(length)),
  };
  return { batch, dropouts: dropouts.all };
}

/** A value of one step, [1, ...], without the axis of steps. */
export function onlyStep(value: Value): Value {
  return reshape(value, value.shape.slice(1).map(Number));
}

/** x_t of all steps at once: outside the Loop this costs its nodes once a run instead of once a step. */
export function forwardDiffusion(
  graph: Graph,
  settings: TrainingGraphSettings,
  clean: Value,
  noise: Value,
  timestep: Value,
) {
  const { alphasCumprod, model } = settings;
  const axes = model.sampleShape.map((_, axis) => axis + 2);
  const atTimestep = (table: Float32Array) =>
    unsqueeze(gather(graph.constant('float32', [table.length], table), timestep), axes);
  const noisy = add(
    mul(clean, atTimestep(alphasCumprod.map(Math.sqrt))),
    mul(noise, atTimestep(alphasCumprod.map((a) => Math.sqrt(1 - a)))),
  );
  return { noisy, alphaCumprod: atTimestep(alphasCumprod) };
}
