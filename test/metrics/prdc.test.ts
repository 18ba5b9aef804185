import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { type BlockProducts, plainBlockProducts } from '../../src/metrics/linalg/products.ts';
import type { PointCloud } from '../../src/metrics/metric.ts';
import { countByIndex } from '../../src/metrics/prdc/ball-index.ts';
import { countByBlocks } from '../../src/metrics/prdc/blocks.ts';
import { fromCounts, Pacer, type Prdc } from '../../src/metrics/prdc/counts.ts';
import { precisionRecallDensityCoverage } from '../../src/metrics/prdc/prdc.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

interface FixtureCase {
  nearest_k: number;
  dims: number;
  real_shape: [number, number];
  fake_shape: [number, number];
  real: number[];
  fake: number[];
  expected: Prdc;
}

const fixtures = JSON.parse(
  readFileSync(new URL('../fixtures/metrics/prdc.json', import.meta.url), 'utf8'),
) as FixtureCase[];

/** Accumulates in float32, as a fast matrix product does, in blocks small enough to have several and a partial one. */
const float32Products: BlockProducts = {
  block_size: 7,
  roundoff: 2 ** -24,
  multiply(a, aCount, b, bCount, dims) {
    const products = new Float32Array(aCount * bCount);
    for (let i = 0; i < aCount; i++) {
      for (let j = 0; j < bCount; j++) {
        let sum = 0;
        for (let d = 0; d < dims; d++) {
          sum = Math.fround(sum + Math.fround((a[i * dims + d] as number) * (b[j * dims + d] as number)));
        }
        products[i * bCount + j] = sum;
      }
    }
    return products;
  },
};

/** What bfloat16 hardware would return: wrong in the third digit, so that nearly every decision needs float64. */
const coarseProducts: BlockProducts = {
  block_size: 16,
  roundoff: 2 ** -8,
  async multiply(a, aCount, b, bCount, dims) {
    const products = await plainBlockProducts.multiply(a, aCount, b, bCount, dims);
    return products.map((value, at) => value * (1 + (at % 2 === 0 ? 1 : -1) * 2 ** -8));
  },
};

const paths: Record<string, (real: PointCloud, fake: PointCloud, k: number) => Promise<Prdc>> = {
  index: async (real, fake, k) => fromCounts(await countByIndex(real, fake, k, new Pacer(1)), real, fake, k),
  'plain blocks': (real, fake, k) => byBlocks(real, fake, k, { ...plainBlockProducts, block_size: 10 }),
  'float32 blocks': (real, fake, k) => byBlocks(real, fake, k, float32Products),
  'coarse blocks': (real, fake, k) => byBlocks(real, fake, k, coarseProducts),
};

async function byBlocks(real: PointCloud, fake: PointCloud, k: number, products: BlockProducts): Promise<Prdc> {
  return fromCounts(await countByBlocks(real, fake, k, new Pacer(1), products), real, fake, k);
}

/** The definition, with whole matrices of float64 distances. */
function bruteForce(real: PointCloud, fake: PointCloud, k: number): Prdc {
  const distances = (a: PointCloud, b: PointCloud) => {
    const rows = (cloud: PointCloud) =>
      Array.from({ length: cloud.count }, (_, i) => [...cloud.data.subarray(i * cloud.dims, (i + 1) * cloud.dims)]);
    const bRows = rows(b);
    return rows(a).map((x) => bRows.map((y) => x.reduce((sum, value, d) => sum + (value - (y[d] as number)) ** 2, 0)));
  };
  const radii = (cloud: PointCloud) => distances(cloud, cloud).map((row) => row.sort((x, y) => x - y)[k] as number);
  const realRadii = radii(real);
  const fakeRadii = radii(fake);
  const between = distances(real, fake);
  const inReal = between.map((row, i) => row.map((distance) => distance < (realRadii[i] as number)));
  const pairs = inReal.flat().filter(Boolean).length;
  const mean = (flags: boolean[]) => flags.filter(Boolean).length / flags.length;
  return {
    precision: mean(fakeRadii.map((_, j) => inReal.some((row) => row[j]))),
    recall: mean(between.map((row) => row.some((distance, j) => distance < (fakeRadii[j] as number)))),
    density: (1 / k) * (pairs / fake.count),
    coverage: mean(between.map((row, i) => Math.min(...row) < (realRadii[i] as number))),
  };
}

function cloud(data: ArrayLike<number>, dims: number): PointCloud {
  return { data: Float32Array.from(data), count: data.length / dims, dims };
}

function normalCloud(seed: number, count: number, dims: number, scale = 1, offset = 0): PointCloud {
  const data = new RandomStream(seed).fillNormal(new Float32Array(count * dims));
  return { data: data.map((value) => value * scale + offset), count, dims };
}

describe('the values of the prdc package', () => {
  test('the fixture has cases of low and high dimension', () => {
    expect(new Set(fixtures.map(({ dims }) => dims > 8))).toEqual(new Set([true, false]));
  });

  for (const [at, fixture] of fixtures.entries()) {
    const { nearest_k, dims, expected } = fixture;
    const real = cloud(fixture.real, dims);
    const fake = cloud(fixture.fake, dims);
    // Fractions are counts over the same n. Density differs by how numpy rounds its mean: one unit in the last place.
    const check = (actual: Prdc) => {
      expect({ ...actual, density: 0 }).toEqual({ ...expected, density: 0 });
      expect(Math.abs(actual.density - expected.density)).toBeLessThanOrEqual(2 ** -52 * expected.density);
    };

    test(`case ${at}: ${dims} dimensions, k = ${nearest_k}`, async () => {
      check(await precisionRecallDensityCoverage(real, fake, { nearest_k }));
    });

    test.each(Object.keys(paths))(`case ${at} by %s`, async (name) => {
      check(await (paths[name] as (typeof paths)[string])(real, fake, nearest_k));
    });
  }
});

describe.each(Object.entries(paths))('against the definition in float64: %s', (_, compute) => {
  // Coordinates on a small lattice make duplicates and exact ties between distances and radii; both are exact in
  // float64, so results must be identical.
  test('lattice points with duplicates and ties', async () => {
    const lattice = fc.integer({ min: 1, max: 4 }).chain((dims) => {
      const points = fc.array(fc.array(fc.integer({ min: -2, max: 2 }), { minLength: dims, maxLength: dims }), {
        minLength: 8,
        maxLength: 45,
      });
      return fc.record({
        dims: fc.constant(dims),
        real: points,
        fake: points,
        k: fc.integer({ min: 1, max: 7 }),
      });
    });
    await fc.assert(
      fc.asyncProperty(lattice, async ({ dims, real, fake, k }) => {
        const [a, b] = [cloud(real.flat(), dims), cloud(fake.flat(), dims)];
        expect(await compute(a, b, k)).toEqual(bruteForce(a, b, k));
      }),
      { numRuns: 150, seed: 1 },
    );
  });

  test.each([1, 2, 3, 5, 8, 9, 33])('random points of %i dimensions', async (dims) => {
    for (const k of [1, 5, 20]) {
      const real = normalCloud(dims, 150, dims);
      const fake = normalCloud(dims + 100, 110, dims, 0.8, 0.1);
      expect(await compute(real, fake, k)).toEqual(bruteForce(real, fake, k));
    }
  });

  test('tiny clusters far apart, where float32 products lose every distance', async () => {
    const clustered = (seed: number) => {
      const points = normalCloud(seed, 80, 16, 1e-3);
      return { ...points, data: points.data.map((value, at) => value + (at % 32 < 16 ? 50 : -50)) };
    };
    const [real, fake] = [clustered(1), clustered(2)];
    expect(await compute(real, fake, 5)).toEqual(bruteForce(real, fake, 5));
  });

  // One dimension: products have one sign, so an overflow would be an infinity that passes for a distance.
  test.each([1, 12])('points of very large and very small magnitude, %i dimensions', async (dims) => {
    for (const scale of [1e30, 1e-30, 1e-42]) {
      const [real, fake] = [normalCloud(1, 60, dims, scale), normalCloud(2, 60, dims, scale)];
      expect(await compute(real, fake, 3)).toEqual(bruteForce(real, fake, 3));
    }
  });

  test('two far outliers beside points whose float32 products underflow', async () => {
    const real = normalCloud(1, 60, 12, 1e-4);
    real.data.fill(1e20, 0, 12).fill(-1e20, 12, 24);
    const fake = normalCloud(2, 60, 12, 1e-4);
    expect(await compute(real, fake, 3)).toEqual(bruteForce(real, fake, 3));
  });

  test('the fewest points, n = k + 1', async () => {
    const [real, fake] = [normalCloud(1, 4, 2), normalCloud(2, 4, 2)];
    expect(await compute(real, fake, 3)).toEqual(bruteForce(real, fake, 3));
  });

  test('all points equal: open balls of radius 0 hold nothing', async () => {
    const same = cloud(new Float32Array(400).fill(0.3), 2);
    expect(await compute(same, same, 5)).toEqual({ precision: 0, recall: 0, density: 0, coverage: 0 });
  });
});

describe('inputs that could degrade the index', () => {
  // A quadratic walk over 100,000 points would take minutes; the test's time limit is the assertion.
  const count = 100_000;
  test.each<[string, (i: number) => [number, number]]>([
    ['all equal', () => [0.5, 0.5]],
    ['collinear and sorted', (i) => [i / count, i / count]],
    ['two values only', (i) => [i % 2, 0]],
    ['a fifth of them one point', (i) => (i % 5 === 0 ? [0, 0] : [Math.sin(i), Math.cos(3 * i)])],
  ])('%s', { timeout: 20_000 }, async (_, point) => {
    const points = cloud(Array.from({ length: count }, (_, i) => point(i)).flat(), 2);
    const result = await precisionRecallDensityCoverage(points, points);
    // A set against itself: a point is in its own ball exactly when the radius is not 0.
    expect(result.precision).toBe(result.recall);
    expect(result.coverage).toBe(result.precision);
  });
});

describe('options', () => {
  const real = normalCloud(1, 3000, 2);
  const fake = normalCloud(2, 2000, 2);

  test.each([2, 12])('progress rises to 1 in %i dimensions', async (dims) => {
    const fractions: number[] = [];
    await precisionRecallDensityCoverage(normalCloud(1, 600, dims), normalCloud(2, 500, dims), {
      on_progress: (fraction) => fractions.push(fraction),
    });
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions.filter((fraction) => fraction === 1)).toHaveLength(1);
    expect(fractions.at(-1)).toBe(1);
  });

  test('an aborted signal ends it with its reason, before and during the computation', async () => {
    const reason = new Error('enough');
    const before = AbortSignal.abort(reason);
    await expect(precisionRecallDensityCoverage(real, fake, { signal: before })).rejects.toBe(reason);
    const controller = new AbortController();
    const during = precisionRecallDensityCoverage(normalCloud(1, 3000, 64), normalCloud(2, 3000, 64), {
      signal: controller.signal,
      on_progress: () => controller.abort(reason),
    });
    await expect(during).rejects.toBe(reason);
  });

  test('nearest_k is 5 by default', async () => {
    const byDefault = await precisionRecallDensityCoverage(real, fake);
    expect(byDefault).toEqual(await precisionRecallDensityCoverage(real, fake, { nearest_k: 5 }));
    expect(byDefault).not.toEqual(await precisionRecallDensityCoverage(real, fake, { nearest_k: 4 }));
  });
});

describe('bad input is an InvalidArgumentError that names the value', () => {
  const good = normalCloud(1, 20, 2);
  const withValue = (value: number) => ({ ...good, data: good.data.with(7, value) });
  test.each<[string, PointCloud, PointCloud, number, RegExp]>([
    ['NaN', withValue(Number.NaN), good, 5, /real holds NaN at point 3, dimension 1/],
    ['Infinity', good, withValue(Number.POSITIVE_INFINITY), 5, /fake holds Infinity/],
    ['too few reals', cloud(new Float32Array(10), 2), good, 5, /real has 5 points; nearest_k 5 needs at least 6/],
    ['too few fakes', good, normalCloud(2, 5, 2), 5, /fake has 5 points/],
    ['different dims', good, normalCloud(2, 20, 3), 5, /real has 2 dimensions and fake has 3/],
    ['no points', good, cloud([], 2), 5, /fake has count 0/],
    ['no dims', { data: new Float32Array(0), count: 3, dims: 0 }, good, 5, /dims 0/],
    ['data that do not fit', { ...good, count: 21 }, good, 5, /real.data has 40 values/],
    ['k = 0', good, good, 0, /nearest_k is 0/],
    ['a fractional k', good, good, 2.5, /nearest_k is 2.5/],
    ['k = NaN', good, good, Number.NaN, /nearest_k is NaN/],
  ])('%s', async (_, real, fake, nearest_k, message) => {
    const error = await precisionRecallDensityCoverage(real, fake, { nearest_k }).catch((caught) => caught);
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(message);
  });
});
