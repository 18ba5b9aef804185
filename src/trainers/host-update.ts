import type { AdamScalars, AdamSettings } from '../graph/optimizer.ts';

/** The state of a run on the host, one vector a kind; `ema` only where an average is kept. */
export interface HostState {
  readonly parameters: Float32Array;
  /** As in `AdamState`. */
  readonly first_moment: Float32Array;
  readonly second_moment: Float32Array;
  readonly ema: Float32Array | undefined;
}

export interface HostUpdate extends AdamScalars<number> {
  /** What the gradient is multiplied by: 1 over the batches in it, and the clipping. */
  readonly gradientScale: number;
  readonly oneMinusDecay: number;
}

/**
 * `adamStep` and `emaStep` of src/graph/optimizer.ts in place and in one pass, in float64 rounded to float32. As graph
 * nodes they are 20 passes over the whole state: for 35.7 M parameters 270 ms, and twice the memory, against 175 ms.
 */
export function updateOnHost(
  state: HostState,
  gradient: Float32Array,
  { beta1, beta2 }: AdamSettings,
  { gradientScale, stepSize, epsilon, keep, oneMinusDecay }: HostUpdate,
): void {
  const { parameters, first_moment, second_moment } = state;
  // Without an average the parameters stand in for it and are overwritten with themselves.
  const average = state.ema ?? parameters;
  for (let i = 0; i < gradient.length; i++) {
    const g = (gradient[i] as number) * gradientScale;
    const m = (first_moment[i] as number) * beta1 + g;
    const v = (second_moment[i] as number) * beta2 + g * g;
    first_moment[i] = m;
    second_moment[i] = v;
    const p = (parameters[i] as number) * keep - (stepSize * m) / (Math.sqrt(v) + epsilon);
    const a = average[i] as number;
    average[i] = a - (a - p) * oneMinusDecay;
    parameters[i] = p;
  }
}

/** The Euclidean norm, summed in float64. */
export function euclideanNorm(vector: Float32Array): number {
  let sum = 0;
  // Two sums a stretch, because one addition would have to wait for the other.
  for (let start = 0; start < vector.length; start += 4096) {
    const end = Math.min(start + 4096, vector.length);
    let even = 0;
    let odd = 0;
    let i = start;
    for (; i + 1 < end; i += 2) {
      even += (vector[i] as number) ** 2;
      odd += (vector[i + 1] as number) ** 2;
    }
    if (i < end) even += (vector[i] as number) ** 2;
    sum += even + odd;
  }
  return Math.sqrt(sum);
}
