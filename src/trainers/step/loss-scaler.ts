import type { Value } from '../../graph/graph.ts';
import { add, equal, minimum, mul, where } from '../../graph/ops/elementwise.ts';
import { concat, reshape, split } from '../../graph/ops/shape.ts';
import { scalarLike } from '../../graph/registry.ts';

// Dynamic loss scaling by the rule and the defaults of torch.amp.GradScaler: the loss is multiplied by a scale, so that
// small gradients do not become 0 in float16. A step whose gradient overflows is skipped, and the scale halved.

const INITIAL_SCALE = 2 ** 16;
const GROWTH_FACTOR = 2;
const BACKOFF_FACTOR = 0.5;
/** Steps without overflow after which the scale grows. */
const GROWTH_INTERVAL = 2000;
/** The largest power of two in float32. */
const MAX_SCALE = 2 ** 127;
/** Below this scale, gradients of 1 would overflow: the weights or the data are to blame, and no scale helps. */
const MIN_SCALE = 2 ** -16;

/** The last two names of a step's report, where the loss is scaled: both are as the step leaves them. */
export const SCALER_REPORT = ['loss_scale', 'skipped_steps'] as const;

/** The length of the vector that holds the state: the scale, the good steps since it changed, and the skipped steps. */
export const LOSS_SCALER_LENGTH = 3;

/** Whether the scale has fallen so low that the run has diverged. */
export function hasCollapsed(scale: number): boolean {
  return scale < MIN_SCALE;
}

/** The parts of the state: numbers, or scalars in a graph. */
export interface LossScaler<T> {
  readonly scale: T;
  /** Steps since the scale last changed. */
  readonly goodSteps: T;
  /** Of the whole run. */
  readonly skippedSteps: T;
}

/** The parts of a state; without one, those before the first step. */
export function lossScalerOf(vector: Float32Array = new Float32Array()): LossScaler<number> {
  const [scale = INITIAL_SCALE, goodSteps = 0, skippedSteps = 0] = vector;
  return { scale, goodSteps, skippedSteps };
}

/** The parts as a vector. */
export function lossScalerVector({ scale, goodSteps, skippedSteps }: LossScaler<number>): Float32Array {
  return Float32Array.of(scale, goodSteps, skippedSteps);
}

/** The state after a step. @param counts whether its gradient was finite. */
export function nextLossScaler(
  { scale, goodSteps, skippedSteps }: LossScaler<number>,
  counts: boolean,
): LossScaler<number> {
  if (!counts) return { scale: scale * BACKOFF_FACTOR, goodSteps: 0, skippedSteps: skippedSteps + 1 };
  if (goodSteps + 1 < GROWTH_INTERVAL) return { scale, goodSteps: goodSteps + 1, skippedSteps };
  return { scale: Math.min(scale * GROWTH_FACTOR, MAX_SCALE), goodSteps: 0, skippedSteps };
}

/** The parts of the state as scalars of its vector, float32 [3]. */
export function splitLossScaler(vector: Value): LossScaler<Value> {
  const [scale, goodSteps, skippedSteps] = split(vector, [1, 1, 1], 0).map((part) => reshape(part, []));
  return { scale, goodSteps, skippedSteps } as LossScaler<Value>;
}

/** `nextLossScaler` in a graph, as a vector. @param counts bool []. */
export function nextLossScalerVector({ scale, goodSteps, skippedSteps }: LossScaler<Value>, counts: Value): Value {
  const number = (value: number) => scalarLike(scale, value);
  const steps = add(goodSteps, number(1));
  const grows = equal(steps, number(GROWTH_INTERVAL));
  const grown = minimum(mul(scale, number(GROWTH_FACTOR)), number(MAX_SCALE));
  const parts = [
    where(counts, where(grows, grown, scale), mul(scale, number(BACKOFF_FACTOR))),
    where(counts, where(grows, number(0), steps), number(0)),
    where(counts, skippedSteps, add(skippedSteps, number(1))),
  ];
  return concat(
    parts.map((part) => reshape(part, [1])),
    0,
  );
}
