import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { clipDiscrepancy, cmmd } from '../../src/metrics/cmmd.ts';
import type { PointCloud } from '../../src/metrics/metric.ts';

const fixture = (name: string) =>
  JSON.parse(readFileSync(new URL(`../fixtures/metrics/${name}.json`, import.meta.url), 'utf8'));
const { real: realValues, fake: fakeValues, real_shape: shape } = fixture('kid');
const expected = fixture('kernels').cmmd as { whole: number; part: number };

const dims: number = shape[1];
const cloud = (values: number[], count = values.length / dims): PointCloud => {
  return { data: Float32Array.from(values.slice(0, count * dims)), count, dims };
};
const [real, fake] = [cloud(realValues), cloud(fakeValues)];

describe('cmmd', () => {
  it('is that of numpy in float64, of sets of equal and of different sizes', async () => {
    // The vectors of length 1 are float32: 2^-24 of a kernel that falls by 1 / 100, a thousandfold.
    expect(Math.abs((await clipDiscrepancy(real, fake)) - expected.whole)).toBeLessThan(1e-6);
    const part = await clipDiscrepancy(cloud(realValues, 50), cloud(fakeValues, 70));
    expect(Math.abs(part - expected.part)).toBeLessThan(1e-6);
  });

  it('does not depend on the lengths of the vectors, and is 0 for equal sets', async () => {
    const longer = { ...real, data: real.data.map((value) => 8 * value) };
    expect(await clipDiscrepancy(longer, fake)).toBe(await clipDiscrepancy(real, fake));
    expect(Math.abs(await clipDiscrepancy(real, real))).toBeLessThan(1e-9);
  });

  it('as a metric takes the product of onnxruntime, and reports its progress', async () => {
    const side = (features: PointCloud) => ({ features }) as never;
    const fractions: number[] = [];
    const inputs = { real: side(real), fake: side(fake), options: {}, seed: 0, signal: undefined };
    const values = await cmmd.compute({ ...inputs, on_progress: (fraction) => void fractions.push(fraction) });
    // float32 products of 16 values: another 2^-24 each.
    expect(Math.abs((values.cmmd ?? Number.NaN) - expected.whole)).toBeLessThan(2e-6);
    expect(fractions.at(-1)).toBe(1);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    const aborted = { ...inputs, on_progress: () => {}, signal: AbortSignal.abort(new Error('enough')) };
    await expect(cmmd.compute(aborted)).rejects.toThrow('enough');
  });

  it.each([
    [
      'zeros',
      { ...fake, data: fake.data.map((value, i) => (i < dims ? 0 : value)) },
      /fake has an embedding of zeros at index 0/,
    ],
    ['other dims', cloud(fakeValues.slice(0, 8), 0.5), /count 0.5/],
    ['NaN', { ...fake, data: fake.data.map((value, i) => (i === 20 ? Number.NaN : value)) }, /holds NaN at point 1/],
  ])('refuses %s', async (_, wrong, message) => {
    const failure = await clipDiscrepancy(real, wrong).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(InvalidArgumentError);
    expect(String(failure)).toMatch(message);
  });
});
