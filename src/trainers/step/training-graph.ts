import { type FlatBucket, planFlatBuckets } from '../../graph/flat-vectors.ts';
import { Graph, type Value } from '../../graph/graph.ts';
import { type DropoutNumbers, gather, loop, unsqueeze } from '../../graph/ops/index.ts';
import type { AdamSettings } from '../../graph/optimizer.ts';
import type { DiffusionLoss, PredictionType } from '../../losses/index.ts';
import type { DiffusionModel } from '../../models/model.ts';
import { meanGradients } from './batch-gradients.ts';
import { LOSS_TERMS } from './batch-loss.ts';
import { type DropoutInput, DropoutInputs } from './dropout-inputs.ts';
import { forwardDiffusion, type GraphBatch, onlyStep } from './graph-batch.ts';
import { updateStep } from './update-step.ts';

export interface TrainingGraphSettings {
  readonly model: DiffusionModel;
  readonly loss: DiffusionLoss;
  readonly predictionType: PredictionType;
  /** The variances of the forward process, one for each training timestep. */
  readonly betas: Float32Array;
  /** Cumulative products of 1 - beta, one for each training timestep. */
  readonly alphasCumprod: Float32Array;
  readonly batchSize: number;
  /** Batches whose mean gradient makes one step; default 1. */
  readonly accumulationSteps?: number | undefined;
  readonly adam: AdamSettings;
  /** Global gradient norm to clip at; 0 turns clipping off. */
  readonly maxGradNorm: number;
  readonly ema: boolean;
  /** Whether the model's checkpoints are computed again in the backward pass, which saves memory; default false. */
  readonly gradientCheckpointing?: boolean | undefined;
  /** `loop` runs many steps in one ONNX Loop, `single` one step a run. */
  readonly mode: 'loop' | 'single';
  readonly maxBucketElements?: number | undefined;
}

/** What every step reports, in the order of the rows of the output `metrics`. */
export const STEP_METRICS = [...LOSS_TERMS, 'grad_norm'] as const;

/** The per-step scalars, each an input vector with one element a step. */
export const STEP_SCALARS = ['step_size', 'epsilon', 'keep', 'one_minus_decay'] as const;

export interface TrainingGraph {
  readonly graph: Graph;
  readonly buckets: readonly FlatBucket[];
  /** Inputs of the state vectors; the output of each has the suffix `_next`. */
  readonly state: readonly StateVector[];
  readonly dropouts: readonly DropoutInput[];
}

/** One flat state vector: parameters, a moment or the moving average of one bucket. */
export interface StateVector {
  readonly kind: StateKind;
  readonly name: string;
  readonly bucket: FlatBucket;
}
export const STATE_KINDS = ['parameters', 'first_moment', 'second_moment', 'ema'] as const;
export type StateKind = (typeof STATE_KINDS)[number];

/** The inputs of one step, with the axis of steps removed. */
export interface StepInputs {
  /** The samples of all batches, and the numbers of their dropouts one batch after the other. */
  readonly samples: GraphBatch;
  readonly scalars: Readonly<Record<(typeof STEP_SCALARS)[number], Value>>;
}

/**
 * A whole training step as one graph: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) epsilon, forward pass, loss, gradients,
 * clipping, Adam and EMA. With `accumulationSteps` an inner Loop goes through the batches of a step; each has its own
 * loss, and so its own isotropy penalty.
 *
 * Inputs (batch: all samples of a step): the state vectors; `clean` and `noise` float32 ['steps', batch, ...], `timestep`
 * int32 ['steps', batch]; the `STEP_SCALARS`, float32 ['steps']; for a model with classes `class_labels` int32 ['steps',
 * batch]; for one with dropout the `dropouts`, of a step for one batch after the other; in mode `loop` also `trips`, int64
 * []. Outputs: the next state, and `metrics`, float32 ['steps', 5]. In mode `single`, 'steps' is 1.
 */
export function buildTrainingGraph(settings: TrainingGraphSettings): TrainingGraph {
  const { model, mode, accumulationSteps = 1 } = settings;
  const batchSize = settings.batchSize * accumulationSteps;
  const graph = new Graph('training_step');
  const buckets = planFlatBuckets(model.parameters, settings.maxBucketElements);
  const state = stateVectors(buckets, settings.ema);
  const stateInputs = state.map(({ name, bucket }) => graph.input(name, 'float32', [bucket.length]));

  const steps = mode === 'loop' ? 'steps' : 1;
  const clean = graph.input('clean', 'float32', [steps, batchSize, ...model.sampleShape]);
  const noise = graph.input('noise', 'float32', [steps, batchSize, ...model.sampleShape]);
  const timestep = graph.input('timestep', 'int32', [steps, batchSize]);
  const scalars = STEP_SCALARS.map((name) => graph.input(name, 'float32', [steps]));
  const classLabels = model.classCount ? [graph.input('class_labels', 'int32', [steps, batchSize])] : [];
  const { noisy, alphaCumprod } = forwardDiffusion(graph, settings, clean, noise, timestep);
  const dropouts = new DropoutInputs(graph, steps);
  const perStep = [noisy, clean, noise, timestep, alphaCumprod, ...scalars, ...classLabels];

  if (mode === 'single') {
    const inputs = stepInputs(perStep.map(onlyStep), (length) => onlyStep(dropouts.declare(length)));
    const { next, metrics } = trainingStep(settings, state, stateInputs, inputs);
    state.forEach(({ name }, index) => {
      graph.output(`${name}_next`, next[index] ?? metrics);
    });
    graph.output('metrics', unsqueeze(metrics, [0]));
    return { graph, buckets, state, dropouts: dropouts.all };
  }
  const trips = graph.input('trips', 'int64', []);
  const looped = loop(trips, stateInputs, (_body, trip, carried) => {
    const row = (value: Value) => gather(value, trip);
    const inputs = stepInputs(perStep.map(row), (length) => row(dropouts.declare(length)));
    const { next, metrics } = trainingStep(settings, state, carried, inputs);
    return { state: next, perTrip: [metrics] };
  });
  state.forEach(({ name }, index) => {
    graph.output(`${name}_next`, looped.state[index] ?? trips);
  });
  graph.output('metrics', looped.perTrip[0] ?? trips);
  return { graph, buckets, state, dropouts: dropouts.all };
}

export function stateVectors(buckets: readonly FlatBucket[], ema: boolean): StateVector[] {
  const kinds = STATE_KINDS.filter((kind) => ema || kind !== 'ema');
  return kinds.flatMap((kind) =>
    buckets.map((bucket, index) => ({ kind, name: `${kind}.${index}`, bucket })),
  );
}

function stepInputs(rows: readonly Value[], dropoutNumbers: DropoutNumbers): StepInputs {
  const [
    noisySample,
    cleanSample,
    noise,
    timestep,
    alphaCumprod,
    step_size,
    epsilon,
    keep,
    one_minus_decay,
    classLabels,
  ] = rows as [Value, Value, Value, Value, Value, Value, Value, Value, Value, Value | undefined];
  return {
    samples: { noisySample, cleanSample, noise, timestep, alphaCumprod, classLabels, dropoutNumbers },
    scalars: { step_size, epsilon, keep, one_minus_decay },
  };
}

function trainingStep(
  settings: TrainingGraphSettings,
  layout: readonly StateVector[],
  state: readonly Value[],
  inputs: StepInputs,
): { next: Value[]; metrics: Value } {
  const vectors = layout.flatMap(({ kind, bucket }, index) =>
    kind === 'parameters' ? [{ bucket, value: state[index] as Value }] : [],
  );
  return updateStep(
    settings,
    layout,
    state,
    meanGradients(settings, vectors, inputs.samples),
    inputs.scalars,
  );
}
