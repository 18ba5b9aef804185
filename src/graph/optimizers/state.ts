import type { Value } from '../graph.ts';

/** What an optimizer holds of some parameters, as flat vectors. */
export interface OptimizerState {
  readonly parameters: Value;
  /** As many as `momentKinds` names, in its order. */
  readonly moments: readonly Value[];
}

/** What an optimizer takes anew at each step: numbers, or scalars in a graph. */
export interface OptimizerScalars<T> {
  readonly stepSize: T;
  /** Of Adam alone. */
  readonly epsilon: T;
  /** What the parameters are multiplied by: 1 less learning rate times decoupled weight decay. */
  readonly decayFactor: T;
}
