import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { SampleStreams } from '../../src/random/sample-streams.ts';

/** `rounds` x `count` normals, in float32 as samplers get them. */
function draw(seed: number, count: number, rounds: number): Float32Array {
  const streams = new SampleStreams(seed, count, 1);
  const values = new Float32Array(count * rounds);
  for (let round = 0; round < rounds; round++) streams.fillNormal(values.subarray(round * count, (round + 1) * count));
  return values;
}

const mean = (values: Float32Array, of: (x: number) => number) =>
  values.reduce((sum, x) => sum + of(x), 0) / values.length;

/** Abramowitz & Stegun 7.1.26 has an error of 1.5e-7, far below the distances tested. */
function normalCdf(x: number): number {
  const t = 1 / (1 + (0.3275911 * Math.abs(x)) / Math.SQRT2);
  const poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const upper = 0.5 * poly * Math.exp((-x * x) / 2);
  return x > 0 ? 1 - upper : upper;
}

describe('SampleStreams', () => {
  const n = 1_000_000;
  const values = draw(7, 1000, n / 1000);

  // Standard errors of the first moments of n normals are 1, sqrt 2, sqrt 15 and sqrt 96 over sqrt n; 4.5 of them.
  it('has the moments of a standard normal', () => {
    const bound = 4.5 / Math.sqrt(n);
    expect(Math.abs(mean(values, (x) => x))).toBeLessThan(bound);
    expect(Math.abs(mean(values, (x) => x * x) - 1)).toBeLessThan(bound * Math.SQRT2);
    expect(Math.abs(mean(values, (x) => x ** 3))).toBeLessThan(bound * Math.sqrt(15));
    expect(Math.abs(mean(values, (x) => x ** 4) - 3)).toBeLessThan(bound * Math.sqrt(96));
  });

  it('has the distribution of a standard normal (Kolmogorov-Smirnov)', () => {
    const sorted = values.slice().sort();
    let distance = 0;
    sorted.forEach((x, i) => {
      const cdf = normalCdf(x);
      distance = Math.max(distance, cdf - i / n, (i + 1) / n - cdf);
    });
    // 2.0 / sqrt n is exceeded with a probability of 0.07 %.
    expect(distance).toBeLessThan(2 / Math.sqrt(n));
  });

  it('fills the tail beyond the last layer', () => {
    // P(|x| > 3.5) = 4.6526e-4 and P(|x| > 4.5) = 6.795e-6; both counts within 5 standard deviations.
    for (const [limit, probability] of [
      [3.5, 4.6526e-4],
      [4.5, 6.795e-6],
    ] as const) {
      const count = values.filter((x) => Math.abs(x) > limit).length;
      expect(Math.abs(count - n * probability)).toBeLessThan(5 * Math.sqrt(n * probability));
    }
  });

  it('has streams without correlation: within one, and between neighbours', () => {
    const rows = n / 1000;
    let [within, between] = [0, 0];
    for (let i = 0; i + 1 < rows; i++)
      for (let sample = 0; sample + 1 < 1000; sample++) {
        const x = values[i * 1000 + sample] as number;
        between += x * (values[i * 1000 + sample + 1] as number);
        within += x * (values[(i + 1) * 1000 + sample] as number);
      }
    // Products of independent normals have variance 1.
    expect(Math.abs(between)).toBeLessThan(4.5 * Math.sqrt(n));
    expect(Math.abs(within)).toBeLessThan(4.5 * Math.sqrt(n));
  });

  it('gives a sample the same numbers whatever is drawn beside it', () => {
    const many = new SampleStreams(3, 50, 2);
    const block = new SampleStreams(3, 5, 2, 20);
    const first = many.fillNormal(new Float32Array(100));
    const second = many.fillNormal(new Float32Array(100));
    expect(block.fillNormal(new Float32Array(10))).toEqual(first.slice(40, 50));
    expect(block.fillNormal(new Float32Array(10))).toEqual(second.slice(40, 50));
  });

  it('has the streams of RandomStream by their path, and uniform integers from the same ones', () => {
    const [first, count, values] = [2 ** 32 - 2, 4, 3];
    const integers = new SampleStreams(2 ** 40, count, 1, first, [4, 17]).fillIntegers(
      1000,
      new Int32Array(count * values),
    );
    for (let i = 0; i < count; i++) {
      const stream = new RandomStream(2 ** 40, 4, 17, first + i);
      const expected = Array.from({ length: values }, () => stream.integer(1000));
      expect([...integers.slice(i * values, (i + 1) * values)]).toEqual(expected);
    }
  });

  it('takes a seed for each sample', () => {
    const listed = new SampleStreams([9, 4], 2, 3).fillNormal(new Float32Array(6));
    expect(listed.slice(0, 3)).toEqual(new SampleStreams(9, 1, 3).fillNormal(new Float32Array(3)));
    expect(listed.slice(3)).toEqual(new SampleStreams(4, 1, 3).fillNormal(new Float32Array(3)));
    expect(listed.slice(0, 3)).not.toEqual(listed.slice(3));
  });

  it.each([[-1], [0.5], [Number.NaN], [2 ** 53]])('refuses the seed %s', (seed) => {
    expect(() => new SampleStreams(seed, 1, 1)).toThrow(InvalidArgumentError);
  });

  it('refuses a short list of seeds and a target of another size', () => {
    expect(() => new SampleStreams([1], 2, 1)).toThrow(InvalidArgumentError);
    expect(() => new SampleStreams(1, 2, 2).fillNormal(new Float32Array(3))).toThrow(InvalidArgumentError);
  });
});
