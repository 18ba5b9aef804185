const { fround } = Math;

/**
 * One reverse step as float32 numbers. `applyStep` and a graph that does the same operations in the same order, each
 * rounded to float32, give the same bits:
 *
 * 1. original = sample * originalFromSample + output * originalFromOutput
 * 2. original = clip(original, -clip, clip), where `clip` is not null
 * 3. previous = original * fromOriginal + sample * fromSample
 * 4. previous = previous + output * fromOutput, only where fromOutput is not 0
 * 5. previous = previous + noise * fromNoise, only where fromNoise is not 0
 */
export interface StepCoefficients {
  readonly originalFromSample: number;
  readonly originalFromOutput: number;
  readonly clip: number | null;
  readonly fromOriginal: number;
  readonly fromSample: number;
  readonly fromOutput: number;
  readonly fromNoise: number;
}

/** What the model predicts; diffusers' names. */
export const PREDICTION_TYPES = ['epsilon', 'sample', 'v_prediction'] as const;
export type PredictionType = (typeof PREDICTION_TYPES)[number];

/** The predicted clean sample as a combination of the noisy sample and the model output. */
export function originalCoefficients(
  type: PredictionType,
  alphaBar: number,
): { fromSample: number; fromOutput: number } {
  switch (type) {
    case 'epsilon':
      return {
        fromSample: 1 / Math.sqrt(alphaBar),
        fromOutput: -Math.sqrt(1 - alphaBar) / Math.sqrt(alphaBar),
      };
    case 'v_prediction':
      return { fromSample: Math.sqrt(alphaBar), fromOutput: -Math.sqrt(1 - alphaBar) };
    case 'sample':
      return { fromSample: 0, fromOutput: 1 };
  }
}

/** Step 1 and 2 of `StepCoefficients`. */
export function predictOriginal(
  output: Float32Array,
  sample: Float32Array,
  coefficients: StepCoefficients,
): Float32Array {
  const a = fround(coefficients.originalFromSample);
  const b = fround(coefficients.originalFromOutput);
  const limit = coefficients.clip ?? Number.POSITIVE_INFINITY;
  const original = new Float32Array(sample.length);
  for (let i = 0; i < sample.length; i++) {
    const value = fround(fround((sample[i] as number) * a) + fround((output[i] as number) * b));
    original[i] = Math.min(Math.max(value, -limit), limit);
  }
  return original;
}

/** Steps 3 to 5 of `StepCoefficients`. */
export function previousSample(
  parts: {
    original: Float32Array;
    sample: Float32Array;
    output: Float32Array;
    noise: Float32Array | undefined;
  },
  coefficients: StepCoefficients,
): Float32Array {
  const { original, sample, output, noise } = parts;
  const [c0, cs, co, cn] = [
    coefficients.fromOriginal,
    coefficients.fromSample,
    coefficients.fromOutput,
    coefficients.fromNoise,
  ].map(fround) as [number, number, number, number];
  const previous = new Float32Array(sample.length);
  for (let i = 0; i < sample.length; i++) {
    previous[i] = fround((original[i] as number) * c0) + fround((sample[i] as number) * cs);
  }
  if (co !== 0)
    for (let i = 0; i < sample.length; i++)
      previous[i] = (previous[i] as number) + fround((output[i] as number) * co);
  if (cn !== 0 && noise)
    for (let i = 0; i < sample.length; i++)
      previous[i] = (previous[i] as number) + fround((noise[i] as number) * cn);
  return previous;
}
