import { add, mul } from '../graph/ops/index.ts';
import { scalarLike } from '../graph/registry.ts';
import { type DiffusionLoss, defineLoss, type LossInputs } from './diffusion-loss.ts';
import { checkLambda } from './lambda.ts';
import { simpleLoss } from './simple.ts';

export interface IsoLossOptions {
  /** Weight of the isotropy penalty, finite and >= 0. The paper uses 0.1 to 0.3 for its 2-D sets. */
  readonly lambda: number;
  /** The loss that the penalty is added to; default `simpleLoss()`. */
  readonly base?: DiffusionLoss | undefined;
}

/**
 * L_iso (eq. 27 of arXiv 2403.16790): base + lambda (mean[eps-hat^T eps-hat / n] - 1)^2, with any base loss and, by
 * conversion to the predicted noise, any prediction type. With lambda = 0 the loss is the base's own graph value, so
 * that training equals training with the base bit for bit.
 *
 * @throws {InvalidArgumentError} when `lambda` is negative or not finite.
 * @example
 * const { loss, isotropy } = isoLoss({ lambda: 0.1 })(inputs);
 */
export function isoLoss(options: IsoLossOptions): DiffusionLoss {
  const { lambda, base = simpleLoss() } = options;
  checkLambda(lambda);
  const config = { name: 'iso', lambda, base: base.config };
  const build = (inputs: LossInputs) => {
    const terms = base(inputs);
    if (lambda === 0) return terms;
    const penalty = mul(terms.isotropyPenalty, scalarLike(terms.isotropyPenalty, lambda));
    return { ...terms, loss: add(terms.loss, penalty) };
  };
  return defineLoss(config, build, { learnsVariance: base.learnsVariance });
}
