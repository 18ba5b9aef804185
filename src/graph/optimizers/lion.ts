import type { Value } from '../graph.ts';
import { add, greater, less, mul, sub, where } from '../ops/elementwise.ts';
import { scalarLike } from '../registry.ts';
import type { OptimizerScalars, OptimizerState } from './state.ts';

export interface LionSettings {
  readonly name: 'lion';
  /** Share of the moment in the direction of the step. */
  readonly beta1: number;
  /** Decay of the moment. */
  readonly beta2: number;
  /** Decoupled, as in AdamW. */
  readonly weight_decay: number;
}

/**
 * One step of Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2) on a flat vector: every parameter moves by the step
 * size, in the direction of the sign of beta1 m + (1 - beta1) gradient.
 *
 * @param state its moment is m, the mean of gradients with decay beta2.
 */
export function lionStep(
  { parameters, moments }: OptimizerState,
  gradient: Value,
  { stepSize, decayFactor }: OptimizerScalars<Value>,
  { beta1, beta2, weight_decay }: LionSettings,
): OptimizerState {
  const [moment = gradient] = moments;
  const mixed = (beta: number) =>
    add(mul(moment, scalarLike(moment, beta)), mul(gradient, scalarLike(gradient, 1 - beta)));
  const decayed = weight_decay === 0 ? parameters : mul(parameters, decayFactor);
  return { parameters: sub(decayed, mul(signOf(mixed(beta1)), stepSize)), moments: [mixed(beta2)] };
}

/** The op Sign, which onnxruntime's webgpu lacks: it would bring the whole vector to the cpu. */
function signOf(x: Value): Value {
  const [zero, one, minusOne] = [0, 1, -1].map((value) => scalarLike(x, value)) as [Value, Value, Value];
  return where(greater(x, zero), one, where(less(x, zero), minusOne, zero));
}
