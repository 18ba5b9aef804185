import { requireFunction, requireObject } from '../arguments.ts';
import { add, mul } from '../graph/ops/elementwise.ts';
import { scalarLike } from '../graph/registry.ts';
import { checkLambda } from './arrays/iso.ts';
import { isotropyOf, withPenalty } from './isotropy.ts';
import { type DiffusionLoss, defineLoss, type LossInputs, type LossResult } from './loss.ts';
import { simpleLoss } from './simple.ts';

/** Options of `isoLoss`. */
export interface IsoLossOptions {
  /** Weight of the isotropy penalty, finite and >= 0; 0 trains the base alone. The paper uses 0.1 to 0.3 for 2-D sets. */
  readonly lambda: number;
  /** The loss that the penalty is added to; default `simpleLoss()`. */
  readonly base?: DiffusionLoss | undefined;
}

/**
 * L_iso (eq. 27 of arXiv 2403.16790): base + lambda (mean[eps-hat^T eps-hat / n] - 1)^2, with any base loss and, by
 * conversion to the predicted noise, any prediction type. With lambda = 0 the loss is the base's own graph value:
 * training equals training with the base bit for bit.
 *
 * Adds the term `weighted_isotropy_penalty`, lambda times the penalty, and `base_loss`, `isotropy` and
 * `isotropy_penalty` where the base does not report them. The constant is called `lambda` in the graph; a run that may
 * change it (`changeable_scalars: ['lambda']`) has an input instead, and adds the penalty at lambda = 0 too.
 *
 * @throws {InvalidArgumentError} when `lambda` is negative or not finite.
 * @example
 * const { loss, terms } = isoLoss({ lambda: 0.1 })(inputs);
 */
export function isoLoss(options: IsoLossOptions): DiffusionLoss {
  requireObject('the argument of isoLoss', options);
  const { lambda, base = simpleLoss() } = options;
  checkLambda(lambda);
  requireFunction('the base of isoLoss', base);
  const build = (inputs: LossInputs) => {
    const { lambda: changeable, ...ofBase } = inputs.scalars ?? {};
    const { loss, terms } = base({ ...inputs, scalars: ofBase });
    // 0 times a penalty beyond float32 would not be 0.
    const isOff = !changeable && lambda === 0;
    const isotropy = stepIsotropy(inputs, terms, isOff);
    const penalty = isotropy.isotropy_penalty;
    const weighted_isotropy_penalty = isOff
      ? scalarLike(penalty, 0)
      : mul(penalty, changeable ?? scalarLike(penalty, lambda, 'lambda'));
    return {
      loss: isOff ? loss : add(loss, weighted_isotropy_penalty),
      terms: { base_loss: loss, ...terms, ...isotropy, weighted_isotropy_penalty },
    };
  };
  const { config, learnsVariance } = base;
  const scalars = { ...base.scalars, lambda: { value: lambda, min: 0 } };
  return defineLoss({ name: 'iso', lambda, base: config }, build, { learnsVariance, scalars });
}

/** The isotropy terms that count: of the whole step where that is asked for and the penalty is on, else of the batch. */
function stepIsotropy(inputs: LossInputs, terms: LossResult['terms'], isOff: boolean) {
  const { isotropy, isotropy_penalty } = terms;
  if (inputs.overStep && !isOff)
    return withPenalty(inputs.overStep('isotropy', isotropy ?? isotropyOf(inputs).isotropy));
  return isotropy_penalty ? { isotropy_penalty } : isotropyOf(inputs);
}
