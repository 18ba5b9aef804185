import { describe, expect, test } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { isotropy, isotropyOfNoisedData } from '../../src/metrics/isotropy.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

/** Linear betas 1e-4..0.02, T = 1000 (the diffusion of arXiv 2403.16790). */
function linearAlphasCumprod(): Float64Array {
  const alphas = new Float64Array(1000);
  let product = 1;
  for (let t = 0; t < 1000; t++) {
    product *= 1 - (1e-4 + (t / 999) * (0.02 - 1e-4));
    alphas[t] = product;
  }
  return alphas;
}

function uniformPoints(count: number, dims: number) {
  const stream = new RandomStream(3);
  const data = Float32Array.from({ length: count * dims }, () => 2 * stream.uniform() - 1);
  return { data, count, dims };
}

describe('isotropy', () => {
  test('is the mean squared norm', () => {
    expect(isotropy(Float32Array.of(3, 4, 0, 1), 2, 2)).toEqual({ squared_norm: 13, per_element: 6.5 });
  });

  test('is n for white noise', () => {
    const count = 50_000;
    const data = new RandomStream(1).fillNormal(new Float32Array(count * 3));
    // ‖x‖² is chi-square with 3 degrees of freedom, variance 6: five standard errors.
    expect(Math.abs(isotropy(data, count, 3).squared_norm - 3)).toBeLessThan(5 * Math.sqrt(6 / count));
  });

  test('rejects a wrong shape and values that are not finite', () => {
    expect(() => isotropy(new Float32Array(5), 2, 2)).toThrow(InvalidArgumentError);
    expect(() => isotropy(Float32Array.of(1, Number.NaN), 1, 2)).toThrow(/NaN at point 0, dimension 1/);
  });
});

describe('isotropyOfNoisedData', () => {
  const alphasCumprod = linearAlphasCumprod();
  const points = uniformPoints(20_000, 2);

  test('has the closed form alphabar E|x0|^2 + (1 - alphabar) n', () => {
    const data = Float32Array.of(0.5, -0.5, 1, 0);
    const [row] = isotropyOfNoisedData({
      points: { data, count: 2, dims: 2 },
      alphasCumprod: [0.9, 0.25],
      seed: 0,
      timesteps: [1],
    });
    // E|x0|^2 = (0.5 + 1) / 2 = 0.75; 0.25 * 0.75 + 0.75 * 2 = 1.6875, exact in binary.
    expect(row?.expected).toEqual({ squared_norm: 1.6875, per_element: 0.84375 });
    expect(row).toMatchObject({ timestep: 1, alpha_cumprod: 0.25 });
  });

  test('grows with t from the data to n for normalised data', () => {
    const rows = isotropyOfNoisedData({ points, alphasCumprod, seed: 0 });
    expect(rows).toHaveLength(1000);
    for (let t = 1; t < rows.length; t++) {
      expect(rows[t]?.expected.squared_norm).toBeGreaterThan(rows[t - 1]?.expected.squared_norm as number);
    }
    // Uniform on [-1, 1]: E x^2 = 1/3, with a standard error of sqrt(4/45 / 40,000) = 0.0015 per element.
    expect(rows[0]?.expected.per_element).toBeCloseTo(1 / 3, 1.9);
    // alphabar_T = 4e-5.
    expect(rows[999]?.expected.per_element).toBeCloseTo(1, 4);
  });

  test('noised samples agree with the closed form, and scatter by the standard error', () => {
    const rows = isotropyOfNoisedData({ points, alphasCumprod, seed: 7 });
    const scores = rows.map((row) => (row.sampled.squared_norm - row.expected.squared_norm) / row.standard_error);
    // 1,000 independent, nearly standard normal scores: |z| < 5 fails by chance once in about 1,700 seeds, and the
    // variance of z over 1,000 has a standard deviation of 0.045.
    expect(Math.max(...scores.map(Math.abs))).toBeLessThan(5);
    const variance = scores.reduce((sum, z) => sum + z * z, 0) / scores.length;
    expect(variance).toBeGreaterThan(0.8);
    expect(variance).toBeLessThan(1.2);
  });

  test('a timestep gives the same sample alone as among all, and depends on the seed', () => {
    const at = (seed: number, timesteps: number[]) =>
      isotropyOfNoisedData({ points, alphasCumprod, seed, timesteps }).at(-1)?.sampled.squared_norm;
    expect(at(1, [500])).toBe(at(1, [10, 500]));
    expect(at(1, [500])).not.toBe(at(2, [500]));
  });

  test.each([
    ['a timestep past the schedule', { timesteps: [1000] }],
    ['a fractional timestep', { timesteps: [0.5] }],
    ['an alphabar above 1', { alphasCumprod: [1.5] }],
    ['an alphabar that is NaN', { alphasCumprod: [Number.NaN] }],
    ['a negative seed', { seed: -1 }],
  ])('rejects %s', (_, wrong) => {
    expect(() => isotropyOfNoisedData({ points, alphasCumprod, seed: 0, ...wrong })).toThrow(InvalidArgumentError);
  });
});
