import type { Value } from '../graph/graph.ts';
import { add, div, mul, neg, sqrt, sub } from '../graph/ops/index.ts';
import { scalarLike } from '../graph/registry.ts';
import type { LossInputs } from './diffusion-loss.ts';

/** diffusers' `prediction_type`: the model predicts the noise, the velocity (Salimans & Ho 2022), or x_0. */
export type PredictionType = 'epsilon' | 'v_prediction' | 'sample';

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
