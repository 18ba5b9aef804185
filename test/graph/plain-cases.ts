import type { Value } from '../../src/graph/graph.ts';
import { apply } from '../../src/graph/op-registry.ts';
import {
  averagePool2x,
  cast,
  erf,
  groupNorm,
  silu,
  softmax,
  square,
  upsampleNearest,
} from '../../src/graph/ops/index.ts';

/** An op built with our graph, beside its definition in plain float64. */
export interface PlainCase {
  readonly name: string;
  readonly shapes: readonly (readonly number[])[];
  readonly build: (inputs: Value[]) => Value;
  readonly plain: (inputs: readonly Float64Array[]) => Float64Array;
}

export const image = [2, 4, 2, 3];
const pixels = 6;
export const epsilon = 1e-5;

/** Maclaurin's series, good to 1e-12 for the |x| < 4 of these tests. */
function plainErf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 80; n++) {
    term *= -(x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

/** Each run of `length` values with mean 0 and variance 1. */
function standardised(x: Float64Array, length: number): Float64Array {
  return x.map((value, i) => {
    const start = i - (i % length);
    const run = x.subarray(start, start + length);
    const mean = run.reduce((sum, v) => sum + v, 0) / length;
    const variance = run.reduce((sum, v) => sum + (v - mean) ** 2, 0) / length;
    return (value - mean) / Math.sqrt(variance + epsilon);
  });
}
const perChannel = (values: Float64Array | undefined, i: number) => values?.[Math.floor(i / pixels) % 4] ?? 0;
const groupNormPlain = (groupLength: number) => (inputs: readonly Float64Array[]) =>
  standardised(inputs[0] ?? new Float64Array(), groupLength).map(
    (value, i) => value * perChannel(inputs[1], i) + perChannel(inputs[2], i),
  );

export const plainCases: PlainCase[] = [
  {
    name: 'groupNorm in 2 groups',
    shapes: [image, [4], [4]],
    build: ([x, weight, bias]) => groupNorm(x as Value, 2, weight as Value, bias as Value, epsilon),
    plain: groupNormPlain(2 * pixels),
  },
  {
    name: 'groupNorm in 1 group',
    shapes: [image, [4], [4]],
    build: ([x, weight, bias]) => groupNorm(x as Value, 1, weight as Value, bias as Value, epsilon),
    plain: groupNormPlain(4 * pixels),
  },
  {
    name: 'InstanceNormalization',
    shapes: [image, [4], [4]],
    build: (inputs) => apply('InstanceNormalization', inputs, { epsilon: { kind: 'float', value: epsilon } }),
    plain: groupNormPlain(pixels),
  },
  {
    name: 'LayerNormalization',
    shapes: [[3, 5], [5], [5]],
    build: (inputs) => apply('LayerNormalization', inputs, { epsilon: { kind: 'float', value: epsilon } }),
    plain: ([x = new Float64Array(), scale, bias]) =>
      standardised(x, 5).map((value, i) => value * (scale?.[i % 5] ?? 0) + (bias?.[i % 5] ?? 0)),
  },
  {
    name: 'Softmax',
    shapes: [[3, 5]],
    build: ([x]) => softmax(x as Value),
    plain: ([x = new Float64Array()]) =>
      x.map((value, i) => {
        const row = x.subarray(i - (i % 5), i - (i % 5) + 5);
        return Math.exp(value) / row.reduce((sum, v) => sum + Math.exp(v), 0);
      }),
  },
  {
    name: 'SiLU',
    shapes: [[3, 5]],
    build: ([x]) => silu(x as Value),
    plain: ([x = new Float64Array()]) => x.map((value) => value / (1 + Math.exp(-value))),
  },
  {
    name: 'Erf',
    shapes: [[3, 5]],
    build: ([x]) => erf(x as Value),
    plain: ([x = new Float64Array()]) => x.map(plainErf),
  },
  {
    name: 'Cast to float64 and back',
    shapes: [[3, 5]],
    build: ([x]) => cast(square(cast(x as Value, 'float64')), 'float32'),
    plain: ([x = new Float64Array()]) => x.map((value) => value ** 2),
  },
  {
    name: 'AveragePool',
    shapes: [[1, 2, 4, 6]],
    build: ([x]) => averagePool2x(x as Value),
    plain: ([x = new Float64Array()]) =>
      Float64Array.from({ length: 2 * 2 * 3 }, (_, i) => {
        const [channel, row, column] = [Math.floor(i / 6), Math.floor(i / 3) % 2, i % 3];
        const at = channel * 24 + row * 12 + column * 2;
        return ((x[at] ?? 0) + (x[at + 1] ?? 0) + (x[at + 6] ?? 0) + (x[at + 7] ?? 0)) / 4;
      }),
  },
  {
    name: 'Resize by 2 and 3',
    shapes: [[1, 2, 2, 3]],
    build: ([x]) => upsampleNearest(x as Value, [2, 3]),
    plain: ([x = new Float64Array()]) =>
      Float64Array.from({ length: 2 * 4 * 9 }, (_, i) => {
        const [channel, row, column] = [Math.floor(i / 36), Math.floor(i / 9) % 4, i % 9];
        return x[channel * 6 + Math.floor(row / 2) * 3 + Math.floor(column / 3)] ?? 0;
      }),
  },
];
