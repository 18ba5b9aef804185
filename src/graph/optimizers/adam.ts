import type { Value } from '../graph.ts';
import { add, div, mul, sqrt, square, sub } from '../ops/elementwise.ts';
import { scalarLike } from '../registry.ts';
import type { OptimizerScalars, OptimizerState } from './state.ts';

export interface AdamSettings {
  readonly name: 'adam';
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled weight decay (AdamW); 0 is Adam. */
  readonly weight_decay: number;
}

/**
 * The scalars of step `step` (from 1). Bias corrections and the scale of the moments are folded into the step size and
 * epsilon, which saves passes over the whole state:
 * lr/bc1 * m / (sqrt(v)/sqrt(bc2) + eps), with m = (1-beta1) m', v = (1-beta2) v', equals
 * stepSize * m' / (sqrt(v') + epsilon).
 */
export function adamScalars(step: number, learningRate: number, settings: AdamSettings): OptimizerScalars<number> {
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
 *
 * @param state its moments are the first divided by 1 - beta1, and the second divided by 1 - beta2.
 */
export function adamStep(
  { parameters, moments }: OptimizerState,
  gradient: Value,
  scalars: OptimizerScalars<Value>,
  settings: AdamSettings,
): OptimizerState {
  const [first = parameters, second = parameters] = moments;
  const firstMoment = add(mul(first, scalarLike(gradient, settings.beta1, 'beta1')), gradient);
  const secondMoment = add(mul(second, scalarLike(gradient, settings.beta2, 'beta2')), square(gradient));
  const decayed = settings.weight_decay === 0 ? parameters : mul(parameters, scalars.decayFactor);
  const direction = div(firstMoment, add(sqrt(secondMoment), scalars.epsilon));
  return { parameters: sub(decayed, mul(direction, scalars.stepSize)), moments: [firstMoment, secondMoment] };
}
