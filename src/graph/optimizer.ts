import type { Value } from './graph.ts';
import { add, div, minimum, mul, sqrt, square, sub } from './ops/elementwise.ts';
import { reduceSum } from './ops/reduce.ts';
import { scalarLike } from './registry.ts';

export interface AdamSettings {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled weight decay (AdamW); 0 is Adam. */
  readonly weight_decay: number;
}

/** What Adam takes anew at each step: numbers, or scalars in a graph. */
export interface AdamScalars<T> {
  readonly stepSize: T;
  readonly epsilon: T;
  /** What the parameters are multiplied by: 1 less learning rate times weight decay. */
  readonly decayFactor: T;
}

/** What changes from step to step. */
export interface StepScalars<T> extends AdamScalars<T> {
  /** 1 less the decay of the moving average. */
  readonly emaRate: T;
}

/** What an update by accumulated gradients takes. */
export interface UpdateScalars extends StepScalars<number> {
  /** What the gradient is multiplied by: 1 over the batches in it, and the clipping. */
  readonly gradientScale: number;
}

export interface AdamState {
  readonly parameters: Value;
  /** The first moment divided by 1 - beta1. */
  readonly firstMoment: Value;
  /** The second moment divided by 1 - beta2. */
  readonly secondMoment: Value;
}

/**
 * The scalars of step `step` (from 1). Bias corrections and the scale of the moments are folded into the step size and
 * epsilon, which saves passes over the whole state:
 * lr/bc1 * m / (sqrt(v)/sqrt(bc2) + eps), with m = (1-beta1) m', v = (1-beta2) v', equals
 * stepSize * m' / (sqrt(v') + epsilon).
 */
export function adamScalars(step: number, learningRate: number, settings: AdamSettings): AdamScalars<number> {
  const { beta1, beta2, epsilon, weight_decay } = settings;
  const correction1 = 1 - beta1 ** step;
  const correction2 = Math.sqrt((1 - beta2 ** step) / (1 - beta2));
  return {
    stepSize: (learningRate * correction2 * (1 - beta1)) / correction1,
    epsilon: epsilon * correction2,
    decayFactor: 1 - learningRate * weight_decay,
  };
}

/**
 * One step of Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) where `settings.weight_decay` is not 0, on a
 * flat vector; equals torch.optim's up to float32 rounding.
 */
export function adamStep(
  state: AdamState,
  gradient: Value,
  scalars: AdamScalars<Value>,
  settings: AdamSettings,
): AdamState {
  const firstMoment = add(mul(state.firstMoment, scalarLike(gradient, settings.beta1, 'beta1')), gradient);
  const secondMoment = add(mul(state.secondMoment, scalarLike(gradient, settings.beta2, 'beta2')), square(gradient));
  const decayed = settings.weight_decay === 0 ? state.parameters : mul(state.parameters, scalars.decayFactor);
  const direction = div(firstMoment, add(sqrt(secondMoment), scalars.epsilon));
  return { parameters: sub(decayed, mul(direction, scalars.stepSize)), firstMoment, secondMoment };
}

/** The Euclidean norm over several vectors together. */
export function globalNorm(vectors: readonly Value[]): Value {
  return sqrt(vectors.map((vector) => reduceSum(square(vector))).reduce(add));
}

/** Scales the vectors so that their global norm is at most `maxNorm`, as torch's clip_grad_norm_ does. */
export function clipByGlobalNorm(vectors: readonly Value[], norm: Value, maxNorm: number): Value[] {
  const scale = minimum(
    div(scalarLike(norm, maxNorm, 'max_grad_norm'), add(norm, scalarLike(norm, 1e-6))),
    scalarLike(norm, 1),
  );
  return vectors.map((vector) => mul(vector, scale));
}

/** average - emaRate (average - parameters): diffusers' EMAModel.step. `emaRate`, 1 less the decay, is a scalar. */
export function emaStep(average: Value, parameters: Value, emaRate: Value): Value {
  return sub(average, mul(sub(average, parameters), emaRate));
}
