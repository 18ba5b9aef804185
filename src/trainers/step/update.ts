import { gradients } from '../../graph/autodiff/gradients.ts';
import {
  type FlatVector,
  type FlatVectorLimits,
  flatten,
  planFlatVectors,
  tensorElements,
  unflatten,
  withGaps,
  withoutGaps,
} from '../../graph/flat-vectors.ts';
import type { Graph, Value } from '../../graph/graph.ts';
import { concat, reshape } from '../../graph/ops/index.ts';
import { adamStep, clipByGlobalNorm, emaStep, globalNorm, type StepScalars } from '../../graph/optimizer.ts';
import { concatenated } from '../../graph/types.ts';
import type { DiffusionModel } from '../../models/model.ts';
import { nextName } from '../../runtime/ort/training-session.ts';
import { batchLoss, type NoisedBatch, type StackedTerms, type StepInputs, stackMeans } from './loss-graph.ts';
import type { StepSettings } from './settings.ts';

// The state of a run as flat vectors, and the second half of a training step on them as a graph: gradients, clipping,
// Adam and the moving average.

export const STATE_KINDS = ['parameters', 'first_moment', 'second_moment', 'ema'] as const;
export type StateKind = (typeof STATE_KINDS)[number];

/** Parameters, moments and moving average, each as one vector in the order of the model's parameters. */
export type TrainingState = ReadonlyMap<StateKind, Float32Array>;

/** Declares the scalars of a step as inputs of a graph, float32 [steps]. */
export function declareScalars(graph: Graph, steps: number | string): StepScalars<Value> {
  const input = (name: keyof StepScalars<Value>) => graph.input(name, 'float32', [steps]);
  return {
    stepSize: input('stepSize'),
    epsilon: input('epsilon'),
    decayFactor: input('decayFactor'),
    emaRate: input('emaRate'),
  };
}

/** One vector of the state: parameters, moments or moving averages of some tensors of the model. */
export interface StateVector extends FlatVector {
  readonly kind: StateKind;
  readonly name: string;
}

/** @param limits of the device; default: one vector for all, without gaps. */
export function stateVectors(model: DiffusionModel, ema: boolean, limits?: FlatVectorLimits): StateVector[] {
  const plan = planFlatVectors(model.parameters, limits);
  const kinds = STATE_KINDS.filter((kind) => ema || kind !== 'ema');
  return kinds.flatMap((kind) => plan.map((vector, index) => ({ ...vector, kind, name: `${kind}.${index}` })));
}

export function declareState(graph: Graph, vectors: readonly StateVector[]): Value[] {
  return vectors.map(({ name, length }) => graph.input(name, 'float32', [length]));
}

/** Declares the outputs of the next state. */
export function outputState(graph: Graph, vectors: readonly StateVector[], next: readonly Value[]): void {
  vectors.forEach(({ name }, index) => {
    graph.output(nextName(name), next[index] as Value);
  });
}

/** The state cut into its vectors, by their names. */
export function splitByVector(vectors: readonly StateVector[], state: TrainingState): Map<string, Float32Array> {
  const pieces = new Map<string, Float32Array>();
  const ends = new Map<StateKind, number>();
  for (const vector of vectors) {
    const { kind, name } = vector;
    const start = ends.get(kind) ?? 0;
    const end = start + tensorElements(vector);
    ends.set(kind, end);
    const whole = state.get(kind);
    if (whole) pieces.set(name, withGaps(whole.subarray(start, end), vector));
  }
  return pieces;
}

/** The whole state from its vectors. */
export function joinVectors(
  vectors: readonly StateVector[],
  pieces: ReadonlyMap<string, Float32Array>,
): Map<StateKind, Float32Array> {
  const partsOf = (kind: StateKind) =>
    vectors.flatMap((vector) =>
      vector.kind === kind ? [withoutGaps(pieces.get(vector.name) ?? new Float32Array(), vector)] : [],
    );
  const kinds = new Set(vectors.map(({ kind }) => kind));
  return new Map([...kinds].map((kind) => [kind, concatenated(partsOf(kind))]));
}

/** Gradients as flat vectors, one for each vector of parameters, and the loss and its terms. */
export interface FlatGradients {
  readonly flat: readonly Value[];
  readonly terms: StackedTerms;
}

/** The vectors of one kind, each with its value in a graph. */
export type VectorValues = readonly { readonly vector: StateVector; readonly value: Value }[];

/** @param state a value for each vector. */
export function vectorsOf(kind: StateKind, vectors: readonly StateVector[], state: readonly Value[]): VectorValues {
  const all = vectors.map((vector, index) => ({ vector, value: state[index] as Value }));
  return all.filter(({ vector }) => vector.kind === kind);
}

/** The forward and backward pass of one batch. */
export function flatGradients(
  settings: StepSettings,
  parameters: VectorValues,
  batch: NoisedBatch,
  inputs: StepInputs,
): FlatGradients {
  const values = tensorsOf(parameters);
  const { loss, terms } = batchLoss(settings, batch, inputs, values);
  const found = gradients(loss, [...values.values()]);
  const byName = new Map([...values.keys()].map((name, index) => [name, found[index] as Value]));
  return { flat: parameters.map(({ vector }) => flatten(byName, vector)), terms };
}

/** A forward pass of one batch for the means that the loss wants over the step: float32 [n]; undefined where it wants none. */
export function flatMeans(
  settings: StepSettings,
  parameters: VectorValues,
  batch: NoisedBatch,
  inputs: StepInputs,
): { readonly names: readonly string[]; readonly values: Value } | undefined {
  if (!settings.overStep) return undefined;
  const { means } = batchLoss(settings, batch, { ...inputs, stepMean: undefined }, tensorsOf(parameters));
  return means.size === 0 ? undefined : { names: [...means.keys()], values: stackMeans(means) };
}

/** The tensors of the model by name, cut from their vectors. */
function tensorsOf(parameters: VectorValues): Map<string, Value> {
  return new Map(parameters.flatMap(({ vector, value }) => [...unflatten(value, vector)]));
}

/**
 * Clipping, Adam and the moving average.
 *
 * @param terms the means over the batches of the step.
 * @returns the next state, and the loss, its terms and the gradient's norm in one vector.
 */
export function updateStep(
  { adam, maxGradNorm }: StepSettings,
  vectors: readonly StateVector[],
  state: readonly Value[],
  gradient: readonly Value[],
  terms: Value,
  { emaRate, ...scalars }: StepScalars<Value>,
): { readonly next: Value[]; readonly metrics: Value } {
  const norm = globalNorm(gradient);
  const clipped = maxGradNorm > 0 ? clipByGlobalNorm(gradient, norm, maxGradNorm) : gradient;
  const current = (kind: StateKind) => vectorsOf(kind, vectors, state).map(({ value }) => value);
  const [firstMoments, secondMoments] = [current('first_moment'), current('second_moment')];
  const updated = current('parameters').map((parameters, index) => {
    const [firstMoment, secondMoment] = [firstMoments[index] as Value, secondMoments[index] as Value];
    return adamStep({ parameters, firstMoment, secondMoment }, clipped[index] as Value, scalars, adam);
  });
  const parameters = updated.map((vector) => vector.parameters);
  const averages = current('ema').map((average, index) => emaStep(average, parameters[index] as Value, emaRate));
  return {
    next: [
      ...parameters,
      ...updated.map((vector) => vector.firstMoment),
      ...updated.map((vector) => vector.secondMoment),
      ...averages,
    ],
    metrics: concat([terms, reshape(norm, [1])], 0),
  };
}
