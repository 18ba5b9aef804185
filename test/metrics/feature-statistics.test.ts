import { describe, expect, test } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { FeatureStatistics, type GaussianStatistics, mergeStatistics } from '../../src/metrics/frechet/statistics.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

function normalFeatures(seed: number, count: number, dims: number, offset = 0): Float32Array {
  return new RandomStream(seed).fillNormal(new Float32Array(count * dims)).map((value) => value + offset);
}

function statisticsOf(dims: number, ...batches: Float32Array[]): GaussianStatistics {
  const statistics = new FeatureStatistics(dims);
  for (const batch of batches) statistics.add(batch);
  return statistics.gaussian();
}

/** The definition in two passes: the mean first, then products of the differences. */
function byDefinition(features: Float32Array, dims: number) {
  const count = features.length / dims;
  const column = (d: number) => Array.from({ length: count }, (_, row) => features[row * dims + d] as number);
  const mu = Array.from({ length: dims }, (_, d) => column(d).reduce((a, b) => a + b, 0) / count);
  const centred = mu.map((mean, d) => column(d).map((value) => value - mean));
  const sigma = centred.flatMap((x) =>
    centred.map((y) => x.reduce((sum, value, row) => sum + value * (y[row] as number), 0) / (count - 1)),
  );
  return { mu, sigma };
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((worst, value, i) => Math.max(worst, Math.abs(value - (b[i] as number))), 0);
}

describe('mean and covariance', () => {
  // 256 vectors are a block: less than one, exactly one, several and a partial one; even and odd numbers of rows.
  test.each([
    [2, 1],
    [100, 3],
    [256, 8],
    [700, 13],
  ])('of %i vectors of %i dimensions follow the definition', (count, dims) => {
    const features = normalFeatures(count, count, dims);
    const { mu, sigma, count: counted } = statisticsOf(dims, features);
    const expected = byDefinition(features, dims);
    expect(counted).toBe(count);
    // Values of order 1 summed in float64: errors of a few hundred roundings of 1e-16.
    expect(largestDifference(mu, expected.mu)).toBeLessThan(1e-13);
    expect(largestDifference(sigma, expected.sigma)).toBeLessThan(1e-13);
  });

  test('features far from the origin keep their covariance', () => {
    const dims = 5;
    const features = normalFeatures(3, 600, dims, 10_000);
    // A sum of squares of 1e8 would leave 1e-8 of these variances of 1; centred sums leave 1e-12.
    expect(largestDifference(statisticsOf(dims, features).sigma, byDefinition(features, dims).sigma)).toBeLessThan(
      1e-11,
    );
  });

  test('do not depend on the batches', () => {
    const dims = 4;
    const features = normalFeatures(5, 500, dims);
    const once = statisticsOf(dims, features);
    const batches = statisticsOf(dims, features.slice(0, 4), features.slice(4, 1200), features.slice(1200));
    expect(batches).toEqual(once);
  });
});

describe('merging', () => {
  test('parts equal the single pass to 1e-10', () => {
    const dims = 17;
    const parts = [normalFeatures(1, 300, dims, 2), normalFeatures(2, 2, dims, -1), normalFeatures(3, 555, dims)];
    const whole = new Float32Array(857 * dims);
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    const merged = mergeStatistics(...parts.map((part) => statisticsOf(dims, part)));
    const single = statisticsOf(dims, whole);
    expect(merged.count).toBe(single.count);
    // The acceptance bound of the project; the values are of order 1.
    expect(largestDifference(merged.mu, single.mu)).toBeLessThan(1e-10);
    expect(largestDifference(merged.sigma, single.sigma)).toBeLessThan(1e-10);
  });

  test('a file that does not say of how many vectors it is, other dims and no parts are refused', () => {
    const part = statisticsOf(2, normalFeatures(1, 10, 2));
    expect(() => mergeStatistics(part, { ...part, count: undefined })).toThrow(/unknown number of vectors/);
    expect(() => mergeStatistics(part, statisticsOf(3, normalFeatures(1, 10, 3)))).toThrow(/3 dimensions/);
    expect(() => mergeStatistics()).toThrow(InvalidArgumentError);
    expect(() => mergeStatistics({ ...part, mu: new Float64Array(3) })).toThrow(/3 means/);
  });
});

describe('bad input', () => {
  test('is refused and nothing is added', () => {
    const statistics = new FeatureStatistics(3);
    expect(() => statistics.add(new Float32Array(4))).toThrow(/4 values/);
    expect(() => statistics.add(Float32Array.of(1, 2, 3, 4, Number.NaN, 6))).toThrow(/NaN at vector 1, dimension 1/);
    expect(statistics.count).toBe(0);
    statistics.add(new Float32Array(3));
    expect(() => statistics.gaussian()).toThrow(/1 feature vectors have no covariance/);
    expect(() => new FeatureStatistics(0)).toThrow(InvalidArgumentError);
  });
});
