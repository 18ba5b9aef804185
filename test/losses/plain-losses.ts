/**
 * Eq. 27 and diffusers' conversions between prediction types in plain float64 arithmetic, from the paper and with
 * nothing from src: what the losses are tested against.
 */
export type Numbers = ArrayLike<number>;

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** mean (target - output)^2 */
export function plainMse(output: Numbers, target: Numbers): number {
  return mean(Array.from(output, (value, i) => (Number(target[i]) - value) ** 2));
}

/** mean eps-hat^2: E[eps-hat^T eps-hat] / n over the whole batch. */
export function plainIsotropy(predicted: Numbers): number {
  return mean(Array.from(predicted, (value) => value ** 2));
}

/** dL/dx of a scalar function by central differences. */
export function centralDifferences(loss: (x: Float64Array) => number, at: Numbers, h = 1e-6): Float64Array {
  const x = Float64Array.from(at);
  return x.map((value, i) => (loss(x.with(i, value + h)) - loss(x.with(i, value - h))) / (2 * h));
}

/** One batch of diffusion, rows of `n` elements that share one alphaCumprod. */
export interface PlainBatch {
  readonly n: number;
  readonly clean: Float64Array;
  readonly epsilon: Float64Array;
  readonly alphaCumprod: readonly number[];
}

/** alphaCumprod of the row that element `i` belongs to. */
function alphaOf(batch: PlainBatch, i: number): number {
  return Number(batch.alphaCumprod[Math.floor(i / batch.n)]);
}

/** diffusers' `add_noise`. */
export function plainNoisy(batch: PlainBatch): Float64Array {
  return batch.clean.map((x0, i) => {
    const alpha = alphaOf(batch, i);
    return Math.sqrt(alpha) * x0 + Math.sqrt(1 - alpha) * Number(batch.epsilon[i]);
  });
}

/** diffusers' `get_velocity`. */
export function plainVelocity(batch: PlainBatch): Float64Array {
  return batch.clean.map((x0, i) => {
    const alpha = alphaOf(batch, i);
    return Math.sqrt(alpha) * Number(batch.epsilon[i]) - Math.sqrt(1 - alpha) * x0;
  });
}

/** The noise that a model output stands for, as the schedulers' `pred_epsilon`. */
export function plainPredictedEpsilon(
  batch: PlainBatch,
  predictionType: 'epsilon' | 'v_prediction' | 'sample',
  output: Numbers,
): Float64Array {
  const noisy = plainNoisy(batch);
  return noisy.map((xt, i) => {
    const alpha = alphaOf(batch, i);
    const value = Number(output[i]);
    if (predictionType === 'epsilon') return value;
    if (predictionType === 'sample') return (xt - Math.sqrt(alpha) * value) / Math.sqrt(1 - alpha);
    return Math.sqrt(alpha) * value + Math.sqrt(1 - alpha) * xt;
  });
}
