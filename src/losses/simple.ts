import type { Value } from '../graph/graph.ts';
import { reduceMean, square, sub } from '../graph/ops/index.ts';
import { type DiffusionLoss, defineLoss } from './diffusion-loss.ts';
import { isotropyOf } from './isotropy.ts';
import { regressionTarget } from './predicted-epsilon.ts';

/**
 * L_simple (Ho et al. 2020; the paper's eq. 10) per element: the mean squared error of the model output against what
 * it predicts, i.e. the noise, the velocity or x_0, as diffusers trains them.
 *
 * @example
 * const { loss } = simpleLoss()(inputs);
 */
export function simpleLoss(): DiffusionLoss {
  return defineLoss({ name: 'simple' }, (inputs) => {
    const base = meanSquare(sub(inputs.modelOutput, regressionTarget(inputs)));
    return { loss: base, base, ...isotropyOf(inputs) };
  });
}

function meanSquare(x: Value): Value {
  return reduceMean(square(x));
}
