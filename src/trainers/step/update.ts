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
import { cast, div, lessOrEqual, where } from '../../graph/ops/elementwise.ts';
import { concat, reshape } from '../../graph/ops/shape.ts';
import {
  clipByGlobalNorm,
  emaStep,
  globalNorm,
  MOMENT_KINDS,
  momentKinds,
  optimizerStep,
  type StepScalars,
} from '../../graph/optimizer.ts';
import { scalarLike } from '../../graph/registry.ts';
import { concatenated, type DType } from '../../graph/types.ts';
import { nextName } from '../../runtime/ort/training-session.ts';
import { batchLoss, type StackedTerms, type StepInputs, scaledGradients, stackMeans } from './loss-graph.ts';
import {
  LOSS_SCALER_LENGTH,
  type LossScaler,
  lossScalerOf,
  lossScalerVector,
  nextLossScalerVector,
  splitLossScaler,
} from './loss-scaler.ts';
import type { BatchValues } from './objective.ts';
import type { StepSettings } from './settings.ts';

// The state of a run as flat vectors, and the second half of a training step on them as a graph: gradients, clipping,
// the optimizer and the moving average.

/** The parts of the state that have a value for each parameter of the model. */
export const STATE_KINDS = ['parameters', ...MOMENT_KINDS, 'ema'] as const;
type VectorKind = (typeof STATE_KINDS)[number];
export type StateKind = VectorKind | 'loss_scaler';

/** Those that a run keeps: the moments of its optimizer, and an average where it is asked for. */
export function vectorKinds({ optimizer, ema }: Pick<StepSettings, 'optimizer' | 'ema'>): VectorKind[] {
  return ['parameters', ...momentKinds(optimizer), ...(ema ? (['ema'] as const) : [])];
}

/**
 * Parameters, moments and moving average, each as one vector in the order of the model's parameters; where the loss is
 * scaled, also the state of the scale.
 */
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

/** One vector of the state: parameters, moments or moving averages of some tensors of the model, or the loss scaler. */
export interface StateVector extends FlatVector {
  readonly kind: StateKind;
  readonly name: string;
}

/** @param limits of the device; default: one vector for all, without gaps. */
export function stateVectors(settings: StepSettings, limits?: FlatVectorLimits): StateVector[] {
  const { objective, computeDtype } = settings;
  const plan = planFlatVectors(objective.parameters, limits);
  const vectors = (kind: StateKind, plan: readonly FlatVector[]) =>
    plan.map((vector, index) => ({ ...vector, kind, name: `${kind}.${index}` }));
  const scaler = planFlatVectors([{ name: 'loss_scaler', shape: [LOSS_SCALER_LENGTH] }]);
  return [
    ...vectorKinds(settings).flatMap((kind) => vectors(kind, plan)),
    ...(computeDtype === 'float16' ? vectors('loss_scaler', scaler) : []),
  ];
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

/** The state with a loss scaler where the loss is scaled and there is none yet. */
export function withLossScaler({ computeDtype }: StepSettings, state: TrainingState): TrainingState {
  if (computeDtype === 'float32' || state.has('loss_scaler')) return state;
  return new Map([...state, ['loss_scaler', lossScalerVector(lossScalerOf())]]);
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

/** Gradients as flat vectors, one for each vector of parameters, times the scale of the loss, and the loss and its terms. */
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
  batch: BatchValues,
  inputs: StepInputs,
): FlatGradients {
  const values = tensorsOf(settings, parameters);
  const { loss, terms } = batchLoss(settings, batch, inputs, values);
  const found = scaledGradients(loss, inputs.lossScale, [...values.values()]);
  const byName = new Map(
    [...values.keys()].map((name, index) => [name, cast(found[index] as Value, settings.computeDtype)]),
  );
  return { flat: parameters.map(({ vector, value }) => cast(flatten(byName, vector), value.dtype)), terms };
}

/** A forward pass of one batch for the means that the loss wants over the step: float32 [n]; undefined where it wants none. */
export function flatMeans(
  settings: StepSettings,
  parameters: VectorValues,
  batch: BatchValues,
  inputs: StepInputs,
): { readonly names: readonly string[]; readonly values: Value } | undefined {
  if (!settings.overStep) return undefined;
  const { means } = batchLoss(settings, batch, { ...inputs, stepMean: undefined }, tensorsOf(settings, parameters));
  return means.size === 0 ? undefined : { names: [...means.keys()], values: stackMeans(means) };
}

/** The tensors of the model by name as `batchLoss` takes them: a vector is cast as a whole, and then cut. */
function tensorsOf({ objective, computeDtype }: StepSettings, parameters: VectorValues): Map<string, Value> {
  const cut = (dtype: DType) =>
    new Map(parameters.flatMap(({ vector, value }) => [...unflatten(cast(value, dtype), vector)]));
  const values = cut(computeDtype);
  const frozen = objective.parameters.filter(({ isFrozen }) => isFrozen);
  const exact = computeDtype === 'float16' && frozen.length > 0 ? cut('float32') : values;
  for (const { name } of frozen) values.set(name, exact.get(name) as Value);
  return values;
}

/** The loss scaler in a state; undefined where the loss is not scaled. */
export function lossScalerIn(vectors: readonly StateVector[], state: readonly Value[]): LossScaler<Value> | undefined {
  const [scaler] = vectorsOf('loss_scaler', vectors, state);
  return scaler && splitLossScaler(scaler.value);
}

/**
 * Clipping, the optimizer and the moving average. Where the loss is scaled, a gradient that is not finite leaves all of the state as
 * it is but the scale.
 *
 * @param gradient times the scale of the loss.
 * @param terms the means over the batches of the step.
 * @returns the next state, and the loss, its terms, the gradient's norm and `SCALER_REPORT` in one vector.
 */
export function updateStep(
  settings: StepSettings,
  vectors: readonly StateVector[],
  state: readonly Value[],
  gradient: readonly Value[],
  terms: Value,
  scalars: StepScalars<Value>,
): { readonly next: Value[]; readonly metrics: Value } {
  const scaler = lossScalerIn(vectors, state);
  const scaledNorm = globalNorm(gradient);
  if (!scaler) {
    const next = nextState(settings, vectors, state, { gradient, norm: scaledNorm }, scalars);
    return { next, metrics: concat([terms, reshape(scaledNorm, [1])], 0) };
  }
  const norm = div(scaledNorm, scaler.scale);
  const unscaled = gradient.map((vector) => div(vector, scaler.scale));
  const counts = lessOrEqual(norm, scalarLike(norm, MAX_FLOAT32));
  const next = nextState(settings, vectors, state, { gradient: unscaled, norm }, scalars);
  const nextScaler = nextLossScalerVector(scaler, counts);
  const { scale, skippedSteps } = splitLossScaler(nextScaler);
  return {
    next: [...next.map((value, index) => where(counts, value, state[index] as Value)), nextScaler],
    metrics: concat([terms, ...[norm, scale, skippedSteps].map((value) => reshape(value, [1]))], 0),
  };
}

const MAX_FLOAT32 = (2 - 2 ** -23) * 2 ** 127;

/** Parameters, moments and averages after a step. */
function nextState(
  { optimizer, maxGradNorm }: StepSettings,
  vectors: readonly StateVector[],
  state: readonly Value[],
  { gradient, norm }: { readonly gradient: readonly Value[]; readonly norm: Value },
  { emaRate, ...scalars }: StepScalars<Value>,
): Value[] {
  const clipped = maxGradNorm > 0 ? clipByGlobalNorm(gradient, norm, maxGradNorm) : gradient;
  const current = (kind: StateKind) => vectorsOf(kind, vectors, state).map(({ value }) => value);
  const kinds = momentKinds(optimizer);
  const moments = kinds.map(current);
  const updated = current('parameters').map((parameters, index) => {
    const own = moments.map((vectors) => vectors[index] as Value);
    return optimizerStep({ parameters, moments: own }, clipped[index] as Value, scalars, optimizer);
  });
  const parameters = updated.map((vector) => vector.parameters);
  const averages = current('ema').map((average, index) => emaStep(average, parameters[index] as Value, emaRate));
  return [
    ...parameters,
    ...kinds.flatMap((_, kind) => updated.map((vector) => vector.moments[kind] as Value)),
    ...averages,
  ];
}
