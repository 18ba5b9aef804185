import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/graph/gradients.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { apply, applyOp } from '../../src/graph/op-registry.ts';
import {
  averagePool2x,
  groupNorm,
  identity,
  mul,
  reduceSum,
  silu,
  softmax,
  upsampleNearest,
} from '../../src/graph/ops/index.ts';
import { elementCount } from '../../src/graph/tensor-type.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';

/** An op built with our graph, beside its definition in plain float64. */
interface PlainCase {
  readonly name: string;
  readonly shapes: readonly (readonly number[])[];
  readonly build: (inputs: Value[]) => Value;
  readonly plain: (inputs: readonly Float64Array[]) => Float64Array;
}

const image = [2, 4, 2, 3];
const pixels = 6;
const epsilon = 1e-5;

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

const cases: PlainCase[] = [
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

function expectClose(actual: Float32Array | undefined, expected: Float64Array): void {
  expect(actual).toHaveLength(expected.length);
  const error = Math.hypot(...expected.map((value, i) => value - (actual?.[i] ?? Number.NaN)));
  // Ours runs in float32; the differences are good to 1e-9. 2e-5 leaves room for some dozens of roundings.
  expect(error).toBeLessThan(2e-5 * Math.hypot(...expected) + 1e-6);
}

describe('ops of the U-Net against plain float64 and its central differences', () => {
  it.each(cases)('$name', async ({ shapes, build, plain }) => {
    const graph = new Graph('case');
    const inputs = shapes.map((shape, i) => graph.input(`x${i}`, 'float32', shape));
    const y = build(inputs);
    const dy = graph.input('dy', 'float32', y.shape);
    graph.output('y', identity(y));
    gradients(reduceSum(mul(y, dy)), inputs).forEach((gradient, i) => {
      expect(gradient.shape).toEqual(shapes[i]);
      graph.output(`d${i}`, identity(gradient));
    });
    const stream = new RandomStream(5);
    // An offset of the mean, because the statistics must not depend on one.
    const point = shapes.map((shape) =>
      stream.fillNormal(new Float32Array(elementCount(shape))).map((value) => value + 0.5),
    );
    const weights = stream.fillNormal(new Float32Array(elementCount(y.shape)));
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const feeds = point.map((data, i) => [`x${i}`, hostTensor('float32', shapes[i] ?? [], data)] as const);
    const outputs = await session.run({
      ...Object.fromEntries(feeds),
      dy: hostTensor('float32', y.shape.map(Number), weights),
    });

    const wide = point.map((data) => Float64Array.from(data));
    const loss = () => plain(wide).reduce((sum, value, i) => sum + value * (weights[i] as number), 0);
    expectClose(outputs.y?.data as Float32Array, plain(wide));
    for (const [i, data] of wide.entries()) {
      const numeric = data.map((kept, j) => {
        data[j] = kept + 1e-5;
        const above = loss();
        data[j] = kept - 1e-5;
        const below = loss();
        data[j] = kept;
        return (above - below) / 2e-5;
      });
      expectClose(outputs[`d${i}`]?.data as Float32Array, numeric);
    }
    await session.release();
  });
});

it('refuses what is not supported by name', () => {
  const graph = new Graph('g');
  const x = graph.input('x', 'float32', image);
  const four = graph.input('four', 'float32', [4]);
  expect(() => groupNorm(x, 3, four, four, epsilon)).toThrow(/3 groups do not divide/);
  const scales = graph.constant('float32', [4], Float32Array.of(1, 1, 1.5, 2));
  expect(() => applyOp('Resize', [x, null, scales])).toThrow(/only the nearest/);
});
