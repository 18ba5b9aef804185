import type { Value } from '../../src/graph/graph.ts';
import {
  averagePool,
  batchNorm,
  cast,
  erf,
  globalAveragePool,
  groupNorm,
  maxPool,
  silu,
  softmax,
  square,
  upsampleNearest,
} from '../../src/graph/ops/index.ts';
import { apply, float } from '../../src/graph/registry.ts';

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

const imagesFor = { shape: [1, 2, 4, 5], rows: 4, columns: 5 };
interface Windows {
  readonly window: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly pads: readonly [number, number, number, number];
}
/** What `reduce` makes of the elements of each window that are not padding. */
const pooledPlain =
  ({ window, strides, pads }: Windows, reduce: (inside: number[]) => number) =>
  ([x = new Float64Array()]: readonly Float64Array[]) => {
    const { rows, columns } = imagesFor;
    const length = (size: number, side: 0 | 1) =>
      Math.floor((size + pads[side] + (pads[side + 2] ?? 0) - window[side]) / strides[side]) + 1;
    const [outRows, outColumns] = [length(rows, 0), length(columns, 1)];
    return Float64Array.from({ length: 2 * outRows * outColumns }, (_, i) => {
      const channel = Math.floor(i / (outRows * outColumns));
      const top = (Math.floor(i / outColumns) % outRows) * strides[0] - pads[0];
      const left = (i % outColumns) * strides[1] - pads[1];
      const inside: number[] = [];
      for (let row = Math.max(top, 0); row < Math.min(top + window[0], rows); row++)
        for (let column = Math.max(left, 0); column < Math.min(left + window[1], columns); column++)
          inside.push(x[(channel * rows + row) * columns + column] ?? 0);
      return reduce(inside);
    });
  };
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const inceptionWindows: Windows = { window: [3, 3], strides: [1, 1], pads: [1, 1, 1, 1] };
const unevenWindows: Windows = { window: [3, 2], strides: [2, 2], pads: [1, 0, 0, 1] };

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
    build: (inputs) => apply('InstanceNormalization', inputs, { epsilon: float(epsilon) }),
    plain: groupNormPlain(pixels),
  },
  {
    name: 'LayerNormalization',
    shapes: [[3, 5], [5], [5]],
    build: (inputs) => apply('LayerNormalization', inputs, { epsilon: float(epsilon) }),
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
    build: ([x]) => averagePool(x as Value, [2, 2]),
    plain: ([x = new Float64Array()]) =>
      Float64Array.from({ length: 2 * 2 * 3 }, (_, i) => {
        const [channel, row, column] = [Math.floor(i / 6), Math.floor(i / 3) % 2, i % 3];
        const at = channel * 24 + row * 12 + column * 2;
        return ((x[at] ?? 0) + (x[at + 1] ?? 0) + (x[at + 6] ?? 0) + (x[at + 7] ?? 0)) / 4;
      }),
  },
  {
    name: 'AveragePool with padding that does not count',
    shapes: [imagesFor.shape],
    build: ([x]) => averagePool(x as Value, inceptionWindows.window, inceptionWindows),
    plain: pooledPlain(inceptionWindows, (inside) => sum(inside) / inside.length),
  },
  {
    name: 'AveragePool with padding that counts',
    shapes: [imagesFor.shape],
    build: ([x]) => averagePool(x as Value, [3, 3], { ...inceptionWindows, countIncludePad: true }),
    plain: pooledPlain(inceptionWindows, (inside) => sum(inside) / 9),
  },
  {
    name: 'AveragePool with strides that leave a rest',
    shapes: [imagesFor.shape],
    build: ([x]) => averagePool(x as Value, unevenWindows.window, unevenWindows),
    plain: pooledPlain(unevenWindows, (inside) => sum(inside) / inside.length),
  },
  ...[inceptionWindows, unevenWindows].map((windows) => ({
    name: `MaxPool by ${windows.strides}`,
    shapes: [imagesFor.shape],
    build: ([x]: Value[]) => maxPool(x as Value, windows.window, windows),
    plain: pooledPlain(windows, (inside) => Math.max(...inside)),
  })),
  {
    name: 'GlobalAveragePool',
    shapes: [imagesFor.shape],
    build: ([x]) => globalAveragePool(x as Value),
    plain: ([x = new Float64Array()]) =>
      Float64Array.of(sum([...x.subarray(0, 20)]) / 20, sum([...x.subarray(20)]) / 20),
  },
  {
    name: 'BatchNormalization by kept statistics',
    shapes: [image, [4], [4], [4], [4]],
    build: ([x, scale, bias, mean, root]) =>
      batchNorm(
        x as Value,
        {
          scale: scale as Value,
          bias: bias as Value,
          mean: mean as Value,
          variance: square(root as Value),
        },
        0.5,
      ),
    plain: ([x = new Float64Array(), scale, bias, mean, root]) =>
      x.map(
        (value, i) =>
          ((value - perChannel(mean, i)) / Math.sqrt(perChannel(root, i) ** 2 + 0.5)) * perChannel(scale, i) +
          perChannel(bias, i),
      ),
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
