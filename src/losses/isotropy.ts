import { reduceMean, square, sub } from '../graph/ops/index.ts';
import { scalarLike } from '../graph/registry.ts';
import type { LossInputs, LossTerms } from './diffusion-loss.ts';
import { predictedEpsilon } from './predicted-epsilon.ts';

/**
 * The isotropy of the predicted noise and its penalty (eq. 27): the expectation is over the whole batch, all samples and
 * all elements, and its one value is squared. It is not a mean of squares of each sample.
 */
export function isotropyOf(inputs: LossInputs): Pick<LossTerms, 'isotropy' | 'isotropyPenalty'> {
  const isotropy = reduceMean(square(predictedEpsilon(inputs)));
  return { isotropy, isotropyPenalty: square(sub(isotropy, scalarLike(isotropy, 1))) };
}
