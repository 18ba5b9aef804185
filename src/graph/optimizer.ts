import type { Value } from './graph.ts';
import { add, div, minimum, mul, sqrt, square, sub } from './ops/elementwise.ts';
import { reduceSum } from './ops/reduce.ts';
import { type AdamSettings, adamScalars, adamStep } from './optimizers/adam.ts';
import { type LionSettings, lionStep } from './optimizers/lion.ts';
import { type SgdSettings, sgdStep } from './optimizers/sgd.ts';
import type { OptimizerScalars, OptimizerState } from './optimizers/state.ts';
import { scalarLike } from './registry.ts';

/** An optimizer with its settings. */
export type OptimizerSettings = AdamSettings | SgdSettings | LionSettings;

/** The vectors that an optimizer keeps beside the parameters. The moment of SGD and of Lion is a first one. */
export const MOMENT_KINDS = ['first_moment', 'second_moment'] as const;
export type MomentKind = (typeof MOMENT_KINDS)[number];

/** The moments that an optimizer keeps, in their order. */
export function momentKinds(settings: OptimizerSettings): readonly MomentKind[] {
  switch (settings.name) {
    case 'adam':
      return MOMENT_KINDS;
    case 'sgd':
      return settings.momentum === 0 ? [] : ['first_moment'];
    case 'lion':
      return ['first_moment'];
  }
}

/** What changes from step to step. */
export interface StepScalars<T> extends OptimizerScalars<T> {
  /** 1 less the decay of the moving average. */
  readonly emaRate: T;
}

/** What an update by accumulated gradients takes. */
export interface UpdateScalars extends StepScalars<number> {
  /** What the gradient is multiplied by: 1 over the batches in it, and the clipping. */
  readonly gradientScale: number;
}

/** The scalars of step `step` (from 1). */
export function optimizerScalars(
  step: number,
  learningRate: number,
  settings: OptimizerSettings,
): OptimizerScalars<number> {
  switch (settings.name) {
    case 'adam':
      return adamScalars(step, learningRate, settings);
    case 'sgd':
      return { stepSize: learningRate, epsilon: 0, decayFactor: 1 };
    case 'lion':
      return { stepSize: learningRate, epsilon: 0, decayFactor: 1 - learningRate * settings.weight_decay };
  }
}

/** One step on a flat vector. */
export function optimizerStep(
  state: OptimizerState,
  gradient: Value,
  scalars: OptimizerScalars<Value>,
  settings: OptimizerSettings,
): OptimizerState {
  switch (settings.name) {
    case 'adam':
      return adamStep(state, gradient, scalars, settings);
    case 'sgd':
      return sgdStep(state, gradient, scalars, settings);
    case 'lion':
      return lionStep(state, gradient, scalars, settings);
  }
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
