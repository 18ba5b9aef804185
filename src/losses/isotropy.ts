import { requireObject } from '../arguments.ts';
import type { Value } from '../graph/graph.ts';
import { add, div, mul, neg, sqrt, square, sub } from '../graph/ops/elementwise.ts';
import { reduceMean } from '../graph/ops/reduce.ts';
import { scalarLike } from '../graph/registry.ts';
import type { LossInputs } from './loss.ts';

// What a model's output stands for under each prediction type, and the isotropy of the noise in it.

/**
 * The terms `isotropy`, E[eps-hat^T eps-hat] / n of the predicted noise (1 for white noise), and `isotropy_penalty`,
 * (isotropy - 1)^2 (eq. 27 of arXiv 2403.16790). The expectation runs over all samples and all elements of the batch,
 * and its one value is squared: it is not a mean of squares of each sample.
 *
 * @example
 * const { isotropy_penalty } = isotropyOf(inputs);
 */
export function isotropyOf(inputs: LossInputs): {
  /** The mean square of the predicted noise, a scalar: 1 for white noise. */
  readonly isotropy: Value;
  /** (isotropy - 1)^2, a scalar. */
  readonly isotropy_penalty: Value;
} {
  requireObject('the inputs of a loss', inputs);
  return withPenalty(reduceMean(square(predictedEpsilon(inputs))));
}

/** An isotropy with its penalty, (isotropy - 1)^2. */
export function withPenalty(isotropy: Value): { readonly isotropy: Value; readonly isotropy_penalty: Value } {
  return { isotropy, isotropy_penalty: square(sub(isotropy, scalarLike(isotropy, 1))) };
}

/** The noise that the model output stands for. */
export function predictedEpsilon(inputs: LossInputs): Value {
  const { modelOutput, noisySample, alphaCumprod } = inputs;
  switch (inputs.predictionType) {
    case 'epsilon':
      return modelOutput;
    case 'v_prediction':
      return add(mul(noiseScale(alphaCumprod), noisySample), mul(sqrt(alphaCumprod), modelOutput));
    case 'sample':
      return div(sub(noisySample, mul(sqrt(alphaCumprod), modelOutput)), noiseScale(alphaCumprod));
  }
}

/** What the model output is regressed on, as in diffusers: the noise, the velocity, or x_0. */
export function regressionTarget(inputs: LossInputs): Value {
  const { epsilon, cleanSample, alphaCumprod } = inputs;
  switch (inputs.predictionType) {
    case 'epsilon':
      return epsilon;
    case 'v_prediction':
      return sub(mul(sqrt(alphaCumprod), epsilon), mul(noiseScale(alphaCumprod), cleanSample));
    case 'sample':
      return cleanSample;
  }
}

/**
 * x_0 less the x_0 that the model output stands for. It is the output's own error times a factor, which keeps the digits
 * that the difference of two predictions would lose at early timesteps.
 */
export function cleanSampleError(inputs: LossInputs): Value {
  const { modelOutput, alphaCumprod } = inputs;
  const error = sub(modelOutput, regressionTarget(inputs));
  switch (inputs.predictionType) {
    case 'epsilon':
      return mul(error, div(noiseScale(alphaCumprod), sqrt(alphaCumprod)));
    case 'v_prediction':
      return mul(error, noiseScale(alphaCumprod));
    case 'sample':
      return neg(error);
  }
}

/** sqrt(1 - alphaCumprod) */
function noiseScale(alphaCumprod: Value): Value {
  return sqrt(sub(scalarLike(alphaCumprod, 1), alphaCumprod));
}
