import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { plainBlockProducts } from '../../src/metrics/linalg/products.ts';
import type { PointCloud } from '../../src/metrics/metric.ts';
import { closeness, shareAsClose } from '../../src/metrics/prdc/closeness.ts';
import type { Neighbourhoods } from '../../src/metrics/prdc/counts.ts';
import { neighbourhoods, precisionRecallDensityCoverage } from '../../src/metrics/prdc/prdc.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

interface Fixture {
  readonly k: number;
  readonly dims: number;
  readonly real: readonly number[];
  readonly fake: readonly number[];
  readonly nearest_reals: readonly (readonly number[])[];
  readonly distances: readonly (readonly number[])[];
  readonly balls: readonly number[];
  readonly covered: readonly boolean[];
  readonly of_fakes: readonly number[];
  readonly of_reals: readonly number[];
  readonly nearest_fake: readonly number[];
  readonly of_new: readonly number[];
}

const fixtures: readonly Fixture[] = JSON.parse(
  readFileSync(new URL('../fixtures/metrics/neighbourhoods.json', import.meta.url), 'utf8'),
);

function cloud(data: readonly number[], dims: number): PointCloud {
  return { data: Float32Array.from(data), count: data.length / dims, dims };
}

function normalCloud(seed: number, count: number, dims: number): PointCloud {
  return { data: new RandomStream(seed).fillNormal(new Float32Array(count * dims)), count, dims };
}

function rows({ count, k }: { count: number; k: number }, value: (i: number, rank: number) => number): number[][] {
  return Array.from({ length: count }, (_, i) => Array.from({ length: k }, (_, rank) => value(i, rank)));
}

/** Both are float64 distances; they are summed in another order. */
function expectClose(actual: Iterable<number>, expected: readonly number[]): void {
  const values = [...actual];
  expect(values).toHaveLength(expected.length);
  values.forEach((value, at) => {
    expect(Math.abs(value - (expected[at] ?? 0))).toBeLessThan(1e-7);
  });
}

function expectFixture(found: Neighbourhoods, fixture: Fixture): void {
  const { realsOfFakes, fakesOfReals, ballsAround } = found;
  expect(rows(realsOfFakes, (i, rank) => realsOfFakes.id(i, rank))).toEqual(fixture.nearest_reals);
  const squares = rows(realsOfFakes, (i, rank) => realsOfFakes.square(i, rank)).flat();
  expectClose(squares.map(Math.sqrt), fixture.distances.flat());
  expect([...ballsAround]).toEqual(fixture.balls);
  const { ofFakes, ofReals, ofNew } = closeness(found);
  expectClose(ofFakes, fixture.of_fakes);
  expectClose(ofReals, fixture.of_reals);
  expectClose(ofNew, fixture.of_new);
  expect([...ofReals].map((distance) => distance < 1)).toEqual(fixture.covered);
  expect(rows(fakesOfReals, (i, rank) => fakesOfReals.id(i, rank)).flat()).toEqual(fixture.nearest_fake);
}

describe.each(fixtures)('the values of scikit-learn in $dims dimensions', (fixture) => {
  const { k, dims } = fixture;
  const [real, fake] = [cloud(fixture.real, dims), cloud(fixture.fake, dims)];

  it('by the path that such points take', async () => {
    expectFixture(await neighbourhoods(real, fake, 4, { nearest_k: k }), fixture);
  });

  it('of a copy: distance 0, as close as no real is to another', async () => {
    const close = closeness(await neighbourhoods(real, fake, 4, { nearest_k: k }));
    expect(close.ofFakes[7]).toBe(0);
    expect(shareAsClose(close, 0)).toBeCloseTo(1 / 61, 12);
    expect(shareAsClose(close, Number.POSITIVE_INFINITY)).toBe(1);
  });
});

it('is the same by small blocks, and gives the metrics', async () => {
  const [real, fake] = [normalCloud(1, 90, 10), normalCloud(2, 70, 10)];
  const found = await neighbourhoods(real, fake, 5);
  const block_products = { ...plainBlockProducts, block_size: 16 };
  expect(await neighbourhoods(real, fake, 5, { block_products })).toEqual(found);
  const { precision, density, coverage } = await precisionRecallDensityCoverage(real, fake);
  const inside = [...found.ballsAround].filter((balls) => balls > 0);
  expect(inside.length / fake.count).toBe(precision);
  expect(inside.reduce((sum, balls) => sum + balls, 0) / (5 * fake.count)).toBeCloseTo(density, 12);
  expect([...closeness(found).ofReals].filter((distance) => distance < 1).length / real.count).toBe(coverage);
});

it('of points that are all the same', async () => {
  const same = (count: number, dims: number) => ({ data: new Float32Array(count * dims).fill(2), count, dims });
  for (const dims of [2, 9]) {
    const found = await neighbourhoods(same(30, dims), same(10, dims), 5, { nearest_k: 3 });
    expect(new Set(found.ballsAround)).toEqual(new Set([0]));
    expect(new Set(closeness(found).ofFakes)).toEqual(new Set([0]));
    for (let i = 0; i < 30; i++) expect([0, 1, 2, 3].map((rank) => found.realsOfReals.id(i, rank))).not.toContain(i);
  }
});

it('says of new samples of the same kind that they are new', async () => {
  for (const dims of [2, 12]) {
    const close = closeness(await neighbourhoods(normalCloud(3, 1500, dims), normalCloud(4, 1500, dims), 1));
    const shares = [...close.ofFakes].map((distance) => shareAsClose(close, distance));
    for (const level of [0.01, 0.1, 0.5]) {
      const part = shares.filter((share) => share <= level).length / shares.length;
      // Three standard deviations of such a part of 1,500 on both sides.
      expect(Math.abs(part - level)).toBeLessThan(3 * Math.sqrt((2 * level * (1 - level)) / 1500));
    }
  }
});
