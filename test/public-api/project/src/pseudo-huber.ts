// A loss: the pseudo-Huber distance of the prediction, which an outlier pulls on less than on a squared error.
import { type DiffusionLoss, defineLoss, isoLoss, regressionTarget } from 'iso-diffusion';
import { add, reduceMax, reduceMean, scalarLike, sqrt, square, sub } from 'iso-diffusion/graph';

/** mean(sqrt(residual^2 + delta^2)) - delta. */
export function pseudoHuber({ delta = 0.1 } = {}): DiffusionLoss {
  return defineLoss({ name: 'pseudo-huber', delta }, (inputs) => {
    const squared = square(sub(inputs.modelOutput, regressionTarget(inputs)));
    const root = sqrt(add(squared, scalarLike(squared, delta ** 2)));
    const loss = sub(reduceMean(root), scalarLike(root, delta));
    return { loss, terms: { base_loss: loss, largest_error: sqrt(reduceMax(squared)) } };
  });
}

export const isoHuber = isoLoss({ lambda: 0.1, base: pseudoHuber() });
