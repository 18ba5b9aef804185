import type { Tfjs, TfTensor } from './tf-module.ts';

/**
 * Broadcasts x to `shape`. Floats by a sum with zeros, whose gradient tfjs knows for every rank: that of its own
 * `broadcastTo` ends at rank 4 and is a slice for each repetition.
 */
export function expand(tf: Tfjs, x: TfTensor, shape: readonly number[]): TfTensor {
  if (x.shape.length === shape.length && x.shape.every((dim, axis) => dim === shape[axis])) return x;
  return x.dtype === 'float32' ? tf.add(x, tf.zeros([...shape])) : tf.broadcastTo(x, [...shape]);
}

/** `a` where the condition is true, `b` elsewhere. tfjs differentiates this for equal shapes only. */
export function select(
  tf: Tfjs,
  condition: TfTensor,
  a: TfTensor,
  b: TfTensor,
  shape: readonly number[],
): TfTensor {
  return tf.where(expand(tf, condition, shape), expand(tf, a, shape), expand(tf, b, shape));
}

/**
 * Computes what has no derivative, such as a comparison. tfjs demands a gradient function of every kernel between
 * parameters and loss, and has none for these.
 */
export function withoutGradient(tf: Tfjs, inputs: readonly TfTensor[], compute: () => TfTensor): TfTensor {
  const severed = tf.customGrad(() => ({
    value: compute(),
    gradFunc: () => inputs.map(({ shape }) => tf.zeros(shape)),
  }));
  return severed(...inputs);
}

/** Adds zeros around each axis, or cuts where the count is negative. */
export function padOrCrop(
  tf: Tfjs,
  x: TfTensor,
  pads: readonly (readonly [before: number, after: number])[],
  value = 0,
): TfTensor {
  let result = x;
  if (pads.some(([before, after]) => before < 0 || after < 0)) {
    const begin = pads.map(([before]) => Math.max(0, -before));
    const size = pads.map(
      ([, after], axis) => (x.shape[axis] ?? 0) - (begin[axis] ?? 0) - Math.max(0, -after),
    );
    result = tf.slice(result, begin, size);
  }
  if (pads.every(([before, after]) => before <= 0 && after <= 0)) return result;
  return tf.pad(
    result,
    pads.map(([before, after]) => [Math.max(0, before), Math.max(0, after)]),
    value,
  );
}
