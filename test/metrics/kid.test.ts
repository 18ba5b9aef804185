import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { type KernelDistanceOptions, kernelDistance, kid } from '../../src/metrics/kid.ts';
import { plainBlockProducts } from '../../src/metrics/linalg/products.ts';
import type { PointCloud } from '../../src/metrics/metric.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

interface Fixture {
  real_shape: [number, number];
  fake_shape: [number, number];
  real: number[];
  fake: number[];
  expected_mmd2_unbiased: number;
}

const kernels = JSON.parse(readFileSync(new URL('../fixtures/metrics/kernels.json', import.meta.url), 'utf8')) as {
  kid: { degree: number; gamma: number | null; coef0: number; expected: number }[];
};
const fixture = JSON.parse(readFileSync(new URL('../fixtures/metrics/kid.json', import.meta.url), 'utf8')) as Fixture;

function cloud(values: ArrayLike<number>, dims: number): PointCloud {
  return { data: Float32Array.from(values), count: values.length / dims, dims };
}

function normalCloud(seed: number, count: number, dims: number): PointCloud {
  return cloud(new RandomStream(seed).fillNormal(new Float32Array(count * dims)), dims);
}

/** The mean over pairs i != j of each subset and over all pairs between them, by the definition. */
function definition(x: PointCloud, y: PointCloud, degree: number): number {
  const row = (c: PointCloud, i: number) => [...c.data.subarray(i * c.dims, (i + 1) * c.dims)];
  const kernel = (a: number[], b: number[]) =>
    (a.reduce((sum, value, d) => sum + value * (b[d] as number), 0) / a.length + 1) ** degree;
  const mean = (a: PointCloud, b: PointCloud, same: boolean) => {
    let sum = 0;
    for (let i = 0; i < a.count; i++)
      for (let j = 0; j < b.count; j++) if (!same || i !== j) sum += kernel(row(a, i), row(b, j));
    return sum / (same ? a.count * (a.count - 1) : a.count * b.count);
  };
  return mean(x, x, true) + mean(y, y, true) - 2 * mean(x, y, false);
}

describe('kernel distance', () => {
  const real = cloud(fixture.real, fixture.real_shape[1]);
  const fake = cloud(fixture.fake, fixture.fake_shape[1]);

  test('subsets that are the whole set give the reference value once, and no deviation', async () => {
    const fractions: number[] = [];
    const { mean, std, subset_size } = await kernelDistance(real, fake, {
      subset_size: 120,
      on_progress: (fraction) => fractions.push(fraction),
    });
    expect(Math.abs(mean / fixture.expected_mmd2_unbiased - 1)).toBeLessThan(1e-6);
    expect({ std, subset_size, fractions }).toEqual({ std: undefined, subset_size: 120, fractions: [1] });
    // One side alone would show too little.
    const half = { ...fake, data: fake.data.subarray(0, 60 * 16), count: 60 };
    expect((await kernelDistance(real, half, { subset_size: 60, num_subsets: 3 })).std).toBeUndefined();
    // One subset has no deviation either.
    expect((await kernelDistance(real, fake, { num_subsets: 1, subset_size: 60 })).std).toBeUndefined();
  });

  test.each(kernels.kid)('with the kernel of degree $degree, gamma $gamma and coef0 $coef0', async (kernel) => {
    const { degree, coef0, expected } = kernel;
    const gamma = kernel.gamma ?? undefined;
    const { mean } = await kernelDistance(real, fake, { subset_size: 120, degree, gamma, coef0 });
    // Both in float64: kernels of up to 2,000 cancel in the difference.
    expect(Math.abs(mean / expected - 1)).toBeLessThan(1e-9);
    const side = (features: PointCloud) => ({ features }) as never;
    const options = { kid_subsets: 1, kid_subset_size: 120, kid_degree: degree, kid_gamma: gamma, kid_coef0: coef0 };
    const on_progress = () => {};
    const inputs = { real: side(real), fake: side(fake), options, seed: 0, on_progress, signal: undefined };
    const { kid_mean = Number.NaN } = await kid.compute(inputs);
    // The product is in float32.
    expect(Math.abs(kid_mean / expected - 1)).toBeLessThan(1e-4);
  });

  test.each([
    [{ kid_degree: 2.5 }, /kid_degree is 2.5/],
    [{ kid_degree: 0 }, /kid_degree is 0/],
    [{ kid_gamma: 0 }, /kid_gamma is 0; it must be a number above 0/],
    [{ kid_coef0: Number.NaN }, /kid_coef0 is NaN/],
  ])('refuses %o before the work', (wrong, message) => {
    expect(() => kid.check?.({}, { ...kid.options, ...wrong })).toThrow(message);
  });

  test('subsets are half of a small set by default; mean and deviation are those of numpy', async () => {
    const { mean, std, subset_size } = await kernelDistance(real, fake);
    expect(subset_size).toBe(60);
    // numpy: torch-fidelity's polynomial_mmd of the 100 pairs of subsets that the stream of seed 0 draws, np.mean and
    // np.std. Features are rounded to float32 here. Over 20,000 subsets of numpy's own the deviation is 0.0433.
    expect(Math.abs(mean / 0.03276832441892862 - 1)).toBeLessThan(1e-6);
    expect(Math.abs((std ?? 0) / 0.043680596389319794 - 1)).toBeLessThan(1e-6);
  });

  test.each([
    [2, 2, 2],
    [3, 5, 2],
    [7, 30, 3],
    [1999, 5000, 999],
    [2000, 2000, 1000],
    [50_000, 3000, 1000],
  ])('%i against %i samples are compared in subsets of %i', (realCount, fakeCount, expected) => {
    const kernel = { kid_degree: 2, kid_gamma: 0.5, kid_coef0: 0 };
    const options = { kid_subsets: 100, kid_subset_size: undefined, ...kernel };
    const counts = { real: realCount, fake: fakeCount };
    expect(kid.resolveOptions?.(counts, options)).toEqual({
      kid_subsets: realCount === 2 ? 1 : 100,
      kid_subset_size: expected,
      ...kernel,
    });
  });

  test('blocks smaller than the subset, with a partial one, change nothing', async () => {
    const block_products = { ...plainBlockProducts, block_size: 50 };
    const { mean } = await kernelDistance(real, fake, { subset_size: 120, block_products });
    expect(Math.abs(mean / fixture.expected_mmd2_unbiased - 1)).toBeLessThan(1e-6);
  });

  test('sets of different sizes and another degree follow the definition', async () => {
    const x = normalCloud(1, 9, 3);
    const y = normalCloud(2, 9, 3);
    const { mean } = await kernelDistance(x, y, { subset_size: 9, degree: 2 });
    // Sums of 81 values of order 1 in float64.
    expect(Math.abs(mean - definition(x, y, 2))).toBeLessThan(1e-12);
  });

  test('subsets depend on the seed alone', async () => {
    const options = { num_subsets: 5, subset_size: 40, seed: 3 };
    const first = await kernelDistance(real, fake, options);
    expect(await kernelDistance(real, fake, options)).toEqual(first);
    expect(await kernelDistance(real, fake, { ...options, seed: 4 })).not.toEqual(first);
    expect(first.std).toBeGreaterThan(0);
  });

  test('the mean over subsets estimates the value of the whole sets', async () => {
    const { mean, std = 0 } = await kernelDistance(real, fake, { num_subsets: 200, subset_size: 60 });
    // Subsets share points, but the mean of 200 is within half a spread of one of them (seeded: always the same).
    expect(Math.abs(mean - fixture.expected_mmd2_unbiased)).toBeLessThan(0.5 * std);
  });

  test('progress ends at 1 and a signal ends it', async () => {
    const fractions: number[] = [];
    await kernelDistance(real, fake, { num_subsets: 4, on_progress: (fraction) => fractions.push(fraction) });
    expect(fractions).toEqual([0.25, 0.5, 0.75, 1]);
    const reason = new Error('enough');
    await expect(kernelDistance(real, fake, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  test.each<[string, PointCloud, KernelDistanceOptions, RegExp]>([
    ['a subset larger than a set', fake, { subset_size: 121 }, /subset_size is 121/],
    ['a subset of one', fake, { subset_size: 1 }, /subset_size is 1/],
    ['no subsets', fake, { num_subsets: 0 }, /num_subsets is 0/],
    ['a negative seed', fake, { seed: -1 }, /seed is -1/],
    ['other dims', normalCloud(1, 100, 3), {}, /fake has 3/],
    ['NaN', cloud(fixture.fake.with(0, Number.NaN), 16), {}, /fake holds NaN/],
  ])('%s is refused', async (_, other, options, message) => {
    const error = await kernelDistance(real, other, options).catch((caught) => caught);
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(message);
  });
});
