import { requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { abs, minimum, mul, sub } from '../graph/ops/elementwise.ts';
import { reduceMean } from '../graph/ops/reduce.ts';
import { scalarLike } from '../graph/registry.ts';
import { isotropyOf, regressionTarget } from './isotropy.ts';
import { type DiffusionLoss, defineLoss } from './loss.ts';

// Losses in which a large error counts less than its square.

/**
 * The mean absolute error of the model output against what it predicts (`torch.nn.functional.l1_loss`). Terms as
 * `simpleLoss`.
 *
 * @example
 * const loss = isoLoss({ lambda: 0.1, base: l1Loss() });
 */
export function l1Loss(): DiffusionLoss {
  return defineLoss({ name: 'l1' }, (inputs) => {
    const loss = reduceMean(abs(sub(inputs.modelOutput, regressionTarget(inputs))));
    return { loss, terms: { base_loss: loss, ...isotropyOf(inputs) } };
  });
}

/** Options of `huberLoss`. */
export interface HuberLossOptions {
  /** The error delta up to which the loss is a square, above 0 and finite, in units of the model output; default 1. */
  readonly delta?: number | undefined;
}

/**
 * Huber's loss (`torch.nn.functional.huber_loss`): the mean of e^2 / 2 where the error |e| is at most delta, and of
 * delta (|e| - delta / 2) elsewhere. For a large delta it is half of `simpleLoss`. Terms as `simpleLoss`.
 *
 * @throws {InvalidArgumentError} when `delta` is not a finite number above 0.
 * @example
 * const { loss } = huberLoss({ delta: 0.5 })(inputs);
 */
export function huberLoss(options: HuberLossOptions = {}): DiffusionLoss {
  requireObject('the argument of huberLoss', options);
  const { delta = 1 } = options;
  if (!(Number.isFinite(delta) && delta > 0))
    throw new InvalidArgumentError(`delta of the Huber loss must be a finite number > 0, but is ${String(delta)}`);
  return defineLoss({ name: 'huber', delta }, (inputs) => {
    const error = abs(sub(inputs.modelOutput, regressionTarget(inputs)));
    const inner = minimum(error, scalarLike(error, delta));
    // inner (|e| - inner / 2) is both cases in one: inner is |e| in the first and delta in the second.
    const loss = reduceMean(mul(inner, sub(error, mul(inner, scalarLike(error, 0.5)))));
    return { loss, terms: { base_loss: loss, ...isotropyOf(inputs) } };
  });
}
