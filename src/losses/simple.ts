import { square, sub } from '../graph/ops/elementwise.ts';
import { reduceMean } from '../graph/ops/reduce.ts';
import { isotropyOf, regressionTarget } from './isotropy.ts';
import { type DiffusionLoss, defineLoss } from './loss.ts';

/**
 * L_simple (Ho et al. 2020; eq. 10 of arXiv 2403.16790) per element: the mean squared error of the model output against
 * what it predicts, i.e. the noise, the velocity or x_0, as diffusers trains them. Its terms are `base_loss`, the loss
 * itself, `isotropy` and `isotropy_penalty`.
 *
 * @example
 * const { loss } = simpleLoss()(inputs);
 */
export function simpleLoss(): DiffusionLoss {
  return defineLoss({ name: 'simple' }, (inputs) => {
    const loss = reduceMean(square(sub(inputs.modelOutput, regressionTarget(inputs))));
    return { loss, terms: { base_loss: loss, ...isotropyOf(inputs) } };
  });
}
