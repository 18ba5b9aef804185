import type { Value } from '../graph.ts';
import { add, mul, sub } from '../ops/elementwise.ts';
import { scalarLike } from '../registry.ts';
import type { OptimizerScalars, OptimizerState } from './state.ts';

export interface SgdSettings {
  readonly name: 'sgd';
  /** 0 keeps no moment. */
  readonly momentum: number;
  /** Whether the step looks one momentum ahead. */
  readonly nesterov: boolean;
  /** Of the L2 penalty, whose gradient is added to that of the loss. */
  readonly weight_decay: number;
}

/**
 * One step of stochastic gradient descent on a flat vector, as torch.optim.SGD takes it without dampening: with
 * g = gradient + weight_decay p and b = momentum b + g, p is moved by b, and with Nesterov's momentum by g + momentum b.
 *
 * @param state its moment is b, where there is a momentum.
 */
export function sgdStep(
  { parameters, moments }: OptimizerState,
  gradient: Value,
  { stepSize }: OptimizerScalars<Value>,
  { momentum, nesterov, weight_decay }: SgdSettings,
): OptimizerState {
  const times = (value: Value, factor: number) => mul(value, scalarLike(value, factor));
  const whole = weight_decay === 0 ? gradient : add(gradient, times(parameters, weight_decay));
  const [moment] = moments;
  const next = moment && add(times(moment, momentum), whole);
  const direction = next && nesterov ? add(whole, times(next, momentum)) : (next ?? whole);
  return { parameters: sub(parameters, mul(direction, stepSize)), moments: next ? [next] : [] };
}
