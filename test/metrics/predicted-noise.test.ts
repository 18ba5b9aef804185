import { describe, expect, it } from 'vitest';
import { predictedNoiseIsotropy, predictedNoiseRatio } from '../../src/metrics/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

const count = 20_000;
const points = { data: new RandomStream(5).fillNormal(new Float32Array(count * 2)), count, dims: 2 };
const common = { points, alphasCumprod: [0.9, 0.5], timesteps: [0, 1], seed: 2 } as const;

/** Predicts the first number of each point times `first`, and the second times `second`. */
const scaling = (first: number, second: number) => ({
  predict: async (sample: Float32Array) => sample.map((x, i) => x * (i % 2 === 0 ? first : second)),
});

describe('predictedNoiseRatio', () => {
  it('is the factor of a multiple, with the correlation 1', async () => {
    const rows = await predictedNoiseRatio({
      ...common,
      model: scaling(2.5, 2.5),
      base: scaling(1, 1),
      prediction_type: 'epsilon',
    });
    for (const { ratio, correlation } of rows) {
      expect(ratio).toBeCloseTo(2.5, 6); // float32 outputs
      expect(correlation).toBeCloseTo(1, 6);
    }
  });

  it('is that of least squares where the one is not a multiple of the other', async () => {
    const rows = await predictedNoiseRatio({
      ...common,
      model: scaling(1, 3),
      base: scaling(1, 1),
      prediction_type: 'epsilon',
    });
    // Both columns have the variance 1 at every timestep: E[(a + 3 b)] / 2 = 2, and 4 / sqrt(10 * 2). Five standard errors.
    for (const { ratio, correlation } of rows) {
      expect(Math.abs(ratio - 2)).toBeLessThan(5 / Math.sqrt(count));
      expect(Math.abs(correlation - 4 / Math.sqrt(20))).toBeLessThan(5 / Math.sqrt(count));
    }
  });

  it('turns a velocity into noise first', async () => {
    // v = 0 stands for eps-hat = sqrt(1 - abar) x_t, and v = x_t for (sqrt(1 - abar) + sqrt(abar)) x_t.
    const rows = await predictedNoiseRatio({
      ...common,
      model: scaling(1, 1),
      base: scaling(0, 0),
      prediction_type: 'v_prediction',
    });
    rows.forEach(({ ratio }, i) => {
      const alpha = common.alphasCumprod[i] ?? Number.NaN;
      expect(ratio).toBeCloseTo(1 + Math.sqrt(alpha / (1 - alpha)), 6);
    });
  });

  it('sees the points and the noise that predictedNoiseIsotropy sees', async () => {
    const model = scaling(1, 1);
    const [isotropy] = await predictedNoiseIsotropy({ ...common, model, prediction_type: 'epsilon' });
    // x_t of standard normal points has the isotropy 1.
    expect(Math.abs((isotropy?.per_element ?? 0) - 1)).toBeLessThan(5 / Math.sqrt(count));
  });

  it('says where a model gives no number', async () => {
    const model = { predict: async (sample: Float32Array) => sample.map(() => Number.NaN) };
    await expect(
      predictedNoiseRatio({ ...common, model, base: scaling(1, 1), prediction_type: 'epsilon' }),
    ).rejects.toThrow(/NaN or infinity at timestep 0/);
  });
});
