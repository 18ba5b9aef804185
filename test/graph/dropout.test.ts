import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { dropout, identity, MAX_DROPOUT_NUMBER, reduceSum, square } from '../../src/graph/ops/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { runGraph } from '../models/run-graph.ts';

const MODULUS = 2 * MAX_DROPOUT_NUMBER + 1;
const integers = (seed: number, length: number) => {
  const stream = new RandomStream(seed);
  return Float32Array.from({ length }, () => stream.integer(MODULUS) - MAX_DROPOUT_NUMBER);
};

/** Runs dropout on `x` and returns what it made, with the gradient of the sum of squares; masks come from `seed`. */
async function run(
  x: Float64Array,
  { shape, probability, seed }: { shape: number[]; probability: number; seed: number },
) {
  const graph = new Graph('dropout');
  let [samples, length] = [0, 0];
  const input = graph.input('x', 'float64', shape);
  const output = dropout(input, probability, (count, integersASample) => {
    [samples, length] = [count, integersASample];
    return graph.input('numbers', 'float32', [samples, length]);
  });
  graph.output('y', identity(output));
  const [gradient] = gradients(reduceSum(square(output)), [input]);
  graph.output('dx', identity(gradient as Value));
  const outputs = await runGraph(graph, {
    x: { dtype: 'float64', shape, data: x },
    ...(length > 0
      ? { numbers: { dtype: 'float32', shape: [samples, length], data: integers(seed, samples * length) } }
      : {}),
  });
  return { y: outputs.y?.data ?? [], dx: outputs.dx?.data ?? [], length };
}

/** The mask in whole numbers, exactly: entry (i, j) is the product of row i and column j modulo the prime. */
function plainMask(rows: number, columns: number, numbers: Float32Array, kept: number): boolean[] {
  return Array.from({ length: rows * columns }, (_, index) => {
    const [i, j] = [Math.floor(index / columns), index % columns];
    let sum = 0;
    for (let k = 0; k < 4; k++) sum += (numbers[4 * i + k] as number) * (numbers[4 * rows + k * columns + j] as number);
    return ((sum % MODULUS) + MODULUS) % MODULUS < kept;
  });
}

describe('dropout', () => {
  it('keeps exactly what the product modulo the prime says, and scales it', async () => {
    const shape = [2, 8, 32, 64];
    const x = new RandomStream(1).fillNormal(new Float64Array(32_768));
    for (const probability of [0.1, 0.5, 0.97]) {
      const { y, length } = await run(x, { shape, probability, seed: 5 });
      expect(length).toBe(4 * (128 + 128));
      const kept = Math.round((1 - probability) * MODULUS);
      const numbers = integers(5, 2 * length);
      // Each sample has a mask of its own integers.
      const mask = [0, 1].flatMap((sample) =>
        plainMask(128, 128, numbers.subarray(sample * length, (sample + 1) * length), kept),
      );
      expect(y).toEqual(Array.from(x, (value, i) => value * (mask[i] ? MODULUS / kept : 0)));
    }
  });

  it('drops the given share, in no pattern', async () => {
    const side = 256;
    const probability = 0.3;
    const ones = new Float64Array(side * side).fill(1);
    const { y } = await run(ones, { shape: [1, side, side], probability, seed: 9 });
    const kept = y.map((value) => (value > 0 ? 1 : 0) - (1 - probability));
    /** Mean of the product of neighbours, in standard deviations of a mean of independent ones. */
    const correlation = (dy: number, dx: number) => {
      let sum = 0;
      for (let i = 0; i < side - dy; i++)
        for (let j = 0; j < side - dx; j++)
          sum += (kept[i * side + j] as number) * (kept[(i + dy) * side + j + dx] as number);
      return sum / Math.sqrt((side - dy) * (side - dx)) / (probability * (1 - probability));
    };
    const share = kept.reduce((sum, value) => sum + value, 0) / Math.sqrt(side * side * 0.21);
    // The masks are fixed by the seed; 4 deviations would be one in 16,000.
    expect(Math.abs(share)).toBeLessThan(4);
    for (const [dy, dx] of [
      [0, 1],
      [1, 0],
      [1, 1],
      [7, 3],
    ] as const)
      expect(Math.abs(correlation(dy, dx))).toBeLessThan(4);
    // The scale leaves the mean as it was: the share above is its only error.
    const mean = y.reduce((sum, value) => sum + value, 0) / y.length;
    expect(Math.abs(mean - 1)).toBeLessThan(0.01);
  });

  it('has the gradient of central differences, the mask fixed', async () => {
    const shape = [3, 4];
    const x = new RandomStream(2).fillNormal(new Float64Array(12));
    const at = async (point: Float64Array) => {
      const { y } = await run(point, { shape, probability: 0.4, seed: 3 });
      return y.reduce((sum, value) => sum + value * value, 0);
    };
    const { dx, y } = await run(x, { shape, probability: 0.4, seed: 3 });
    expect(y.filter((value) => value === 0).length).toBeGreaterThan(0);
    for (const [i, slope] of dx.entries()) {
      const h = 1e-5;
      const numeric =
        ((await at(x.with(i, (x[i] as number) + h))) - (await at(x.with(i, (x[i] as number) - h)))) / (2 * h);
      expect(Math.abs(slope - numeric)).toBeLessThan(1e-6 * (1 + Math.abs(numeric)));
    }
  });

  it('differs from seed to seed and is the same for the same seed', async () => {
    const x = new Float64Array(600).fill(1);
    const options = { shape: [2, 300], probability: 0.5 };
    const first = await run(x, { ...options, seed: 1 });
    expect((await run(x, { ...options, seed: 1 })).y).toEqual(first.y);
    expect((await run(x, { ...options, seed: 2 })).y).not.toEqual(first.y);
  });

  it('is the identity at probability 0', async () => {
    const { y, length } = await run(Float64Array.of(1, 2), { shape: [2], probability: 0, seed: 0 });
    expect([y, length]).toEqual([[1, 2], 0]);
  });
});
