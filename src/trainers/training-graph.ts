import { type FlatBucket, flatten, planFlatBuckets, unflatten } from '../graph/flat-state.ts';
import { gradients } from '../graph/gradients.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { scalarLike } from '../graph/op-registry.ts';
import {
  add,
  concat,
  type DropoutNumbers,
  expandTo,
  gather,
  loop,
  mul,
  reshape,
  unsqueeze,
} from '../graph/ops/index.ts';
import { type AdamSettings, adamStep, clipByGlobalNorm, emaStep, globalNorm } from '../graph/optimizer.ts';
import type { DiffusionLoss, PredictionType } from '../losses/index.ts';
import type { DiffusionModel } from '../models/model.ts';
import { type BatchInputs, batchLoss } from './batch-loss.ts';
import { type DropoutInput, DropoutInputs } from './dropout-inputs.ts';

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
  readonly accumulationSteps?: number;
  readonly adam: AdamSettings;
  /** Global gradient norm to clip at; 0 turns clipping off. */
  readonly maxGradNorm: number;
  readonly ema: boolean;
  /** Whether the model's checkpoints are computed again in the backward pass, which saves memory; default false. */
  readonly gradientCheckpointing?: boolean;
  /** `loop` runs many steps in one ONNX Loop, `single` one step a run. */
  readonly mode: 'loop' | 'single';
  readonly maxBucketElements?: number;
}

/** What every step reports, in the order of the rows of the output `metrics`. */
export const STEP_METRICS = ['loss', 'base_loss', 'isotropy_penalty', 'isotropy', 'grad_norm'] as const;

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
  readonly samples: BatchInputs;
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
    const row = (value: Value) => reshape(value, value.shape.slice(1).map(Number));
    const inputs = stepInputs(perStep.map(row), (length) => row(dropouts.declare(length)));
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

/** Clipping, Adam and EMA: the next state, and the row of `STEP_METRICS`. */
export function updateStep(
  { adam, maxGradNorm }: TrainingGraphSettings,
  layout: readonly StateVector[],
  state: readonly Value[],
  { flat, terms }: BatchGradients,
  scalars: StepInputs['scalars'],
): { next: Value[]; metrics: Value } {
  const current = (kind: StateKind) =>
    layout.flatMap((vector, index) =>
      vector.kind === kind ? [{ bucket: vector.bucket, value: state[index] as Value }] : [],
    );
  const vectors = current('parameters');
  const norm = globalNorm(flat);
  const clipped = maxGradNorm > 0 ? clipByGlobalNorm(flat, norm, maxGradNorm) : flat;

  const { step_size: stepSize, epsilon, keep, one_minus_decay } = scalars;
  const firstMoments = current('first_moment');
  const secondMoments = current('second_moment');
  const updated = vectors.map(({ value }, index) =>
    adamStep(
      {
        parameters: value,
        firstMoment: firstMoments[index]?.value as Value,
        secondMoment: secondMoments[index]?.value as Value,
      },
      clipped[index] as Value,
      { stepSize, epsilon, keep },
      adam,
    ),
  );
  const averages = current('ema').map(({ value }, index) =>
    emaStep(value, updated[index]?.parameters as Value, one_minus_decay),
  );
  return {
    next: [
      ...updated.map((vector) => vector.parameters),
      ...updated.map((vector) => vector.firstMoment),
      ...updated.map((vector) => vector.secondMoment),
      ...averages,
    ],
    metrics: concat([terms, reshape(norm, [1])], 0),
  };
}

/** Gradients as flat vectors, one a bucket, and the loss terms [4]. */
export interface BatchGradients {
  readonly flat: Value[];
  readonly terms: Value;
}

/** One vector of parameters. */
export interface ParameterVector {
  readonly bucket: FlatBucket;
  readonly value: Value;
}

/** The mean over the batches of a step. */
function meanGradients(
  settings: TrainingGraphSettings,
  vectors: readonly ParameterVector[],
  samples: BatchInputs,
): BatchGradients {
  const { batchSize, accumulationSteps = 1 } = settings;
  const parameters = new Map(vectors.flatMap(({ bucket, value }) => [...unflatten(value, bucket)]));
  if (accumulationSteps === 1) return batchGradients(settings, vectors, parameters, samples);
  const { graph } = samples.noisySample;
  const zero = scalarLike(samples.noisySample, 0);
  const zeros = [...vectors.map(({ bucket }) => bucket.length), TERM_COUNT].map((length) =>
    expandTo(zero, [length]),
  );
  const trips = graph.constant('int64', [], BigInt64Array.of(BigInt(accumulationSteps)));
  const perBatch = (value: Value, length: number) =>
    reshape(value, [accumulationSteps, length, ...value.shape.slice(1).map(Number)]);
  const byBatch = mapSamples(samples, (value) => perBatch(value, batchSize));
  const { state } = loop(trips, zeros, (_body, trip, sums) => {
    const batch = {
      ...mapSamples(byBatch, (value) => gather(value, trip)),
      dropoutNumbers: (length: number) =>
        gather(perBatch(samples.dropoutNumbers(accumulationSteps * length), length), trip),
    };
    const { flat, terms } = batchGradients(settings, vectors, parameters, batch);
    return { state: [...flat, terms].map((value, index) => add(sums[index] ?? value, value)) };
  });
  const means = state.map((sum) => mul(sum, scalarLike(sum, 1 / accumulationSteps)));
  return { flat: means.slice(0, -1), terms: means.at(-1) ?? zero };
}

function mapSamples(samples: BatchInputs, change: (value: Value) => Value): BatchInputs {
  const { noisySample, cleanSample, noise, timestep, alphaCumprod, classLabels } = samples;
  return {
    noisySample: change(noisySample),
    cleanSample: change(cleanSample),
    noise: change(noise),
    timestep: change(timestep),
    alphaCumprod: change(alphaCumprod),
    classLabels: classLabels && change(classLabels),
    dropoutNumbers: samples.dropoutNumbers,
  };
}

export const TERM_COUNT = 4;

export function batchGradients(
  settings: TrainingGraphSettings,
  vectors: readonly ParameterVector[],
  /** Each parameter, cut from its vector. */
  parameters: ReadonlyMap<string, Value>,
  samples: BatchInputs,
): BatchGradients {
  const terms = batchLoss(settings, samples, parameters);
  const found = gradients(terms.loss, [...parameters.values()]);
  const byName = new Map([...parameters.keys()].map((name, index) => [name, found[index] as Value]));
  return {
    flat: vectors.map(({ bucket }) => flatten(byName, bucket)),
    terms: stackScalars([terms.loss, terms.base, terms.isotropyPenalty, terms.isotropy]),
  };
}

function stackScalars(scalars: readonly Value[]): Value {
  return concat(
    scalars.map((scalar) => reshape(scalar, [1])),
    0,
  );
}
