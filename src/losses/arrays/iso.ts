import { requireArray, requireObject } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';

/** The noise of a batch, as the model predicts it and as it was, and the weight of the penalty. */
export interface IsoDiffusionLossInputs<T extends Float32Array | Float64Array = Float32Array> {
  /** The noise the model predicts: the whole batch, flattened in any order. */
  readonly predicted_noise: T;
  /** The noise that was added, in the same order. */
  readonly noise: Float32Array | Float64Array;
  /** Weight of the isotropy penalty, finite and >= 0. */
  readonly lambda: number;
}

/** The loss, its terms, and its gradient. */
export interface IsoDiffusionLossResult<T extends Float32Array | Float64Array = Float32Array> {
  /** base + lambda * isotropy_penalty */
  readonly loss: number;
  /** Mean squared error per element. */
  readonly base: number;
  /** (isotropy - 1)^2, not weighted. */
  readonly isotropy_penalty: number;
  /** Mean of the squared predicted noise per element; 1 for white noise. */
  readonly isotropy: number;
  /** d loss / d predicted_noise, of its length. */
  readonly gradient: T;
}

/**
 * The Iso-Diffusion loss (eq. 27 of arXiv 2403.16790) on plain arrays, with its gradient, for a training loop in any
 * framework: give it the predicted and the true noise of a batch and hand the gradient to the framework's backward
 * pass. Sums are accumulated in float64.
 *
 * A model with v- or x0-prediction converts its output to noise first; then the gradient is with respect to that noise.
 *
 * @throws {InvalidArgumentError} when the arrays are empty, differ in length or hold a value that is not finite, or
 * when lambda is negative or not finite.
 * @example
 * const predicted_noise = new Float32Array([0.5, -0.5]);
 * const noise = new Float32Array([1, -1]);
 * isoDiffusionLoss({ predicted_noise, noise, lambda: 0.1 }).loss; // 0.30625 = 0.25 + 0.1 * (0.25 - 1)^2
 */
export function isoDiffusionLoss<T extends Float32Array | Float64Array>(
  inputs: IsoDiffusionLossInputs<T>,
): IsoDiffusionLossResult<T> {
  requireObject('the argument of isoDiffusionLoss', inputs);
  const { predicted_noise, noise, lambda } = inputs;
  requireArray('predicted_noise', predicted_noise);
  requireArray('noise', noise);
  checkLambda(lambda);
  checkArrays(predicted_noise, noise);

  const count = predicted_noise.length;
  let squaredError = 0;
  let squaredNorm = 0;
  for (let i = 0; i < count; i++) {
    const predicted = predicted_noise[i] as number;
    const difference = predicted - (noise[i] as number);
    squaredError += difference * difference;
    squaredNorm += predicted * predicted;
  }
  const base = squaredError / count;
  const isotropy = squaredNorm / count;
  const isotropy_penalty = (isotropy - 1) ** 2;

  // d/dp_i: 2 (p_i - noise_i) / N from the mean squared error, 2 (isotropy - 1) * 2 p_i / N from the penalty.
  const penaltySlope = 2 * lambda * (isotropy - 1);
  const gradient = predicted_noise.slice() as T;
  for (let i = 0; i < count; i++) {
    const predicted = predicted_noise[i] as number;
    gradient[i] = (2 / count) * (predicted - (noise[i] as number) + penaltySlope * predicted);
  }
  const loss = lambda === 0 ? base : base + lambda * isotropy_penalty;
  return { loss, base, isotropy_penalty, isotropy, gradient };
}

/** @throws {InvalidArgumentError} unless `lambda` is a finite number >= 0. */
export function checkLambda(lambda: number): void {
  if (typeof lambda === 'number' && Number.isFinite(lambda) && lambda >= 0) return;
  throw new InvalidArgumentError(
    `lambda, the weight of the isotropy penalty, must be a finite number >= 0, but is ${String(lambda)} (0 gives the base loss, the paper uses up to 0.3)`,
  );
}

function checkArrays(predictedNoise: Float32Array | Float64Array, noise: Float32Array | Float64Array): void {
  if (predictedNoise.length === 0)
    throw new InvalidArgumentError('predicted_noise is empty: the loss is a mean over at least one element');
  if (predictedNoise.length !== noise.length)
    throw new InvalidArgumentError(
      `predicted_noise has ${predictedNoise.length} elements but noise has ${noise.length}: they must be alike`,
    );
  for (const [name, values] of Object.entries({ predicted_noise: predictedNoise, noise })) {
    const index = values.findIndex((value) => !Number.isFinite(value));
    if (index >= 0) throw new InvalidArgumentError(`${name}[${index}] is ${values[index]}: all values must be finite`);
  }
}
