import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { frechetDistance } from '../../src/metrics/frechet/fid.ts';
import { FeatureStatistics, type GaussianStatistics } from '../../src/metrics/frechet/statistics.ts';
import { symmetricEigenvalues } from '../../src/metrics/linalg/eigenvalues.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

interface FixtureCase {
  real_shape: [number, number];
  fake_shape: [number, number];
  real: number[];
  fake: number[];
  expected_fid: number;
  rank_deficient: boolean;
}

const fixtures = JSON.parse(
  readFileSync(new URL('../fixtures/metrics/fid.json', import.meta.url), 'utf8'),
) as FixtureCase[];

function statisticsOf(values: ArrayLike<number>, dims: number): GaussianStatistics {
  const statistics = new FeatureStatistics(dims);
  statistics.add(Float32Array.from(values));
  return statistics.gaussian();
}

function gaussian(mu: number[], sigma: number[]): GaussianStatistics {
  return { dims: mu.length, mu: Float64Array.from(mu), sigma: Float64Array.from(sigma), count: undefined };
}

function diagonal(values: number[]): number[] {
  return values.flatMap((value, i) => values.map((_, j) => (i === j ? value : 0)));
}

describe('the values of scipy', () => {
  test('the fixture has full rank and rank-deficient cases', () => {
    expect(fixtures.map(({ rank_deficient }) => rank_deficient)).toEqual([false, false, true]);
  });

  for (const { real_shape, fake_shape, real, fake, expected_fid, rank_deficient } of fixtures) {
    const dims = real_shape[1];
    test(`${real_shape[0]} and ${fake_shape[0]} vectors of ${dims} dimensions`, () => {
      const fid = frechetDistance(statisticsOf(real, dims), statisticsOf(fake, dims));
      // scipy's sqrtm of a singular, unsymmetric product takes roots of eigenvalues that are rounding errors of either
      // sign: its trace is known to about the root of 1e-16, times their number. Full rank agrees to 1e-10.
      const tolerance = rank_deficient ? 1e-3 : 1e-6;
      expect(Math.abs(fid / expected_fid - 1)).toBeLessThan(tolerance);
    });
  }
});

describe('closed forms', () => {
  test('diagonal covariances: Σ (√a - √b)² plus the squared distance of the means', () => {
    const a = gaussian([1, 2, 3], diagonal([4, 9, 0]));
    const b = gaussian([1, 0, 3], diagonal([1, 16, 25]));
    // Rounding of sums of order 10; the zero variance adds the root of a rounding error, 1e-7.
    expect(Math.abs(frechetDistance(a, b) - (4 + 1 + 1 + 25))).toBeLessThan(1e-6);
    expect(Math.abs(frechetDistance(b, a) - (4 + 1 + 1 + 25))).toBeLessThan(1e-6);
  });

  test('equal sets are at distance 0, also with fewer vectors than dimensions', () => {
    const values = new RandomStream(1).fillNormal(new Float32Array(20 * 40));
    const same = statisticsOf(values, 40);
    const fid = frechetDistance(same, same);
    // The trace is 40; 19 roots of full precision.
    expect(fid).toBeGreaterThanOrEqual(0);
    expect(fid).toBeLessThan(1e-6);
  });

  test('no variance at all leaves the distance of the means', () => {
    expect(frechetDistance(gaussian([3], [0]), gaussian([0], [0]))).toBe(9);
  });
});

describe('eigenvalues', () => {
  test('of the second difference matrix are 2 - 2 cos(k π / (n + 1))', () => {
    const n = 50;
    const matrix = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      matrix[i * n + i] = 2;
      if (i > 0) matrix[i * n + i - 1] = -1;
    }
    const values = symmetricEigenvalues(matrix, n).sort();
    for (let k = 1; k <= n; k++) {
      // Eigenvalues of a matrix of norm 4 by orthogonal transformations: some tens of 1e-16.
      expect(Math.abs((values[k - 1] as number) - (2 - 2 * Math.cos((k * Math.PI) / (n + 1))))).toBeLessThan(1e-13);
    }
  });

  test('of a dense matrix have its trace and the trace of its square', () => {
    const n = 31;
    const matrix = new RandomStream(2).fillNormal(new Float64Array(n * n));
    for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) matrix[j * n + i] = matrix[i * n + j] as number;
    const trace = Array.from({ length: n }, (_, i) => matrix[i * n + i] as number).reduce((a, b) => a + b);
    const squares = matrix.reduce((sum, value) => sum + value * value, 0);
    const values = symmetricEigenvalues(matrix, n);
    expect(Math.abs(values.reduce((a, b) => a + b) - trace)).toBeLessThan(1e-11);
    expect(Math.abs(values.reduce((sum, value) => sum + value * value, 0) - squares)).toBeLessThan(1e-10);
  });
});

describe('bad statistics', () => {
  const good = gaussian([0, 0], [1, 0, 0, 1]);
  test.each<[string, GaussianStatistics, RegExp]>([
    ['other dims', gaussian([0], [1]), /2 and 1 dimensions/],
    ['NaN', gaussian([0, Number.NaN], [1, 0, 0, 1]), /mu of the second statistics holds NaN at 1/],
    ['an unsymmetric sigma', gaussian([0, 0], [1, 0.5, 0, 1]), /not symmetric/],
    ['a negative variance', gaussian([0, 0], [1, 0, 0, -1]), /negative eigenvalues/],
    ['a covariance larger than the variances', gaussian([0, 0], [1, 2, 2, 1]), /negative eigenvalues/],
    ['no variances but a covariance', gaussian([0, 0], [0, 1, 1, 0]), /negative eigenvalues/],
    ['a sigma of another size', { ...good, sigma: new Float64Array(3) }, /3 covariances/],
  ])('%s', (_, bad, message) => {
    expect(() => frechetDistance(good, bad)).toThrow(message);
    expect(() => frechetDistance(bad, good)).toThrow(InvalidArgumentError);
  });

  test('an eigenvalue just below zero is lifted by eps, as pytorch-fid does', () => {
    const slightlyNegative = gaussian([0, 0], diagonal([1, -5e-6]));
    expect(() => frechetDistance(slightlyNegative, good, { eps: 1e-6 })).toThrow(/negative eigenvalues/);
    // (1 - 1)² + 1 - 2 √((-5e-6 + 1e-5)(1 + 1e-5)) up to eps and the negative variance itself.
    const fid = frechetDistance(slightlyNegative, good, { eps: 1e-5 });
    expect(Math.abs(fid - (1 - 2 * Math.sqrt(5e-6)))).toBeLessThan(5e-5);
  });
});
