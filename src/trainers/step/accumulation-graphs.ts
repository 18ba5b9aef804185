import { type FlatBucket, planFlatBuckets, unflatten } from '../../graph/flat-vectors.ts';
import { Graph, type Value } from '../../graph/graph.ts';
import { add, mul, reshape, unsqueeze } from '../../graph/ops/index.ts';
import { scalarLike } from '../../graph/registry.ts';
import { batchGradients } from './batch-gradients.ts';
import { LOSS_TERMS } from './batch-loss.ts';
import type { DropoutInput } from './dropout-inputs.ts';
import { declareBatch } from './graph-batch.ts';
import {
  STEP_SCALARS,
  type StateVector,
  stateVectors,
  type TrainingGraphSettings,
} from './training-graph.ts';
import { updateStep } from './update-step.ts';

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
    { name: 'term_sum', length: LOSS_TERMS.length },
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
  const graph = new Graph('accumulate');
  const vectors = buckets.map((bucket, index) => ({
    bucket,
    value: graph.input(`parameters.${index}`, 'float32', [bucket.length]),
  }));
  const before = sums.map(({ name, length }) => graph.input(name, 'float32', [length]));
  const keep = graph.input('keep_sum', 'float32', [1]);
  const { batch, dropouts } = declareBatch(graph, settings);
  const parameters = new Map(vectors.flatMap(({ bucket, value }) => [...unflatten(value, bucket)]));
  const { flat, terms } = batchGradients(settings, vectors, parameters, batch);
  [...flat, terms].forEach((value, index) => {
    const sum = before[index] ?? value;
    graph.output(`${sums[index]?.name}_next`, add(mul(sum, keep), value));
  });
  return { graph, dropouts };
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
