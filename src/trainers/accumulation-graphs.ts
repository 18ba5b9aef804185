import { type FlatBucket, planFlatBuckets, unflatten } from '../graph/flat-state.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { scalarLike } from '../graph/op-registry.ts';
import { add, mul, reshape, unsqueeze } from '../graph/ops/index.ts';
import { type DropoutInput, DropoutInputs } from './dropout-inputs.ts';
import {
  batchGradients,
  forwardDiffusion,
  STEP_SCALARS,
  type StateVector,
  stateVectors,
  TERM_COUNT,
  type TrainingGraphSettings,
  updateStep,
} from './training-graph.ts';

/** A vector that a session carries from run to run. */
export interface Slot {
  readonly name: string;
  readonly length: number;
}

export interface AccumulationGraphs {
  /** Adds the gradients and terms of one batch to the sums: `sum_next = keep_sum * sum + gradient`. */
  readonly accumulate: Graph;
  /** The update by the means of the sums. */
  readonly update: Graph;
  readonly state: readonly StateVector[];
  readonly sums: readonly Slot[];
  /** Inputs of `accumulate`. */
  readonly dropouts: readonly DropoutInput[];
}

/**
 * A step of several batches as two graphs, so that the number of batches does not change them and everything stays on
 * the device: onnxruntime runs a Loop's carried values through the host on webgpu.
 *
 * `accumulate` takes the parameters, `clean` and `noise` float32 [1, batch, ...], `timestep` (and `class_labels`) int32
 * [1, batch], the `dropouts`, `keep_sum` float32 [1], which is 0 for the first batch of a step, and the sums. `update` takes the state,
 * the sums and the `STEP_SCALARS`, and gives the next state and `metrics`, as `buildTrainingGraph`.
 */
export function buildAccumulationGraphs(settings: TrainingGraphSettings): AccumulationGraphs {
  const buckets = planFlatBuckets(settings.model.parameters, settings.maxBucketElements);
  const state = stateVectors(buckets, settings.ema);
  const sums = [
    ...buckets.map(({ length }, index) => ({ name: `gradient_sum.${index}`, length })),
    { name: 'term_sum', length: TERM_COUNT },
  ];
  const { graph: accumulate, dropouts } = accumulationGraph(settings, buckets, sums);
  return {
    accumulate,
    dropouts,
    update: updateGraph(settings, state, sums),
    state,
    sums,
  };
}

function accumulationGraph(
  settings: TrainingGraphSettings,
  buckets: readonly FlatBucket[],
  sums: readonly Slot[],
): { graph: Graph; dropouts: readonly DropoutInput[] } {
  const { model, batchSize } = settings;
  const graph = new Graph('accumulate');
  const dropouts = new DropoutInputs(graph, 1);
  const vectors = buckets.map((bucket, index) => ({
    bucket,
    value: graph.input(`parameters.${index}`, 'float32', [bucket.length]),
  }));
  const before = sums.map(({ name, length }) => graph.input(name, 'float32', [length]));
  const keep = graph.input('keep_sum', 'float32', [1]);
  const clean = graph.input('clean', 'float32', [1, batchSize, ...model.sampleShape]);
  const noise = graph.input('noise', 'float32', [1, batchSize, ...model.sampleShape]);
  const timestep = graph.input('timestep', 'int32', [1, batchSize]);
  const labels = model.classCount ? graph.input('class_labels', 'int32', [1, batchSize]) : undefined;
  const { noisy, alphaCumprod } = forwardDiffusion(graph, settings, clean, noise, timestep);
  const step = (value: Value) => reshape(value, value.shape.slice(1).map(Number));
  const parameters = new Map(vectors.flatMap(({ bucket, value }) => [...unflatten(value, bucket)]));
  const { flat, terms } = batchGradients(settings, vectors, parameters, {
    noisySample: step(noisy),
    cleanSample: step(clean),
    noise: step(noise),
    timestep: step(timestep),
    alphaCumprod: step(alphaCumprod),
    classLabels: labels && step(labels),
    dropoutNumbers: (length) => step(dropouts.declare(length)),
  });
  [...flat, terms].forEach((value, index) => {
    const sum = before[index] ?? value;
    graph.output(`${sums[index]?.name}_next`, add(mul(sum, keep), value));
  });
  return { graph, dropouts: dropouts.all };
}

function updateGraph(
  settings: TrainingGraphSettings,
  state: readonly StateVector[],
  sums: readonly Slot[],
): Graph {
  const graph = new Graph('update');
  const inputs = state.map(({ name, bucket }) => graph.input(name, 'float32', [bucket.length]));
  const means = sums.map(({ name, length }) => {
    const sum = graph.input(name, 'float32', [length]);
    return mul(sum, scalarLike(sum, 1 / (settings.accumulationSteps ?? 1)));
  });
  const [step_size, epsilon, keep, one_minus_decay] = STEP_SCALARS.map((name) =>
    reshape(graph.input(name, 'float32', [1]), []),
  ) as [Value, Value, Value, Value];
  const gradients = { flat: means.slice(0, -1), terms: means.at(-1) as Value };
  const scalars = { step_size, epsilon, keep, one_minus_decay };
  const { next, metrics } = updateStep(settings, state, inputs, gradients, scalars);
  state.forEach(({ name }, index) => {
    graph.output(`${name}_next`, next[index] ?? metrics);
  });
  graph.output('metrics', unsqueeze(metrics, [0]));
  return graph;
}
