import { describe, expect, it } from 'vitest';
import type { Value } from '../../../src/graph/graph.ts';
import * as ops from '../../../src/graph/ops/index.ts';
import { apply, applyOp, float, int64Vector, registeredOps, scalarLike } from '../../../src/graph/registry.ts';
import { findTfOp } from '../../../src/runtime/tfjs/tf-op.ts';
import { float64Cases } from '../../graph/gradient-cases.ts';
import { plainCases } from '../../graph/plain-cases.ts';
import { relativeError } from '../../models/run-graph.ts';
import { byOnnxruntime, byTfjs, type OpCase } from './compare-engines.ts';
import { tf } from './load-tf.ts';

const conv = (
  name: string,
  x: number[],
  weight: number[],
  options: ops.Conv2dOptions,
  bias = weight[0] ?? 1,
): OpCase => ({
  name: `Conv ${name}`,
  shapes: [x, weight, [bias]],
  build: ([a, w, b]) => ops.conv2d(a as Value, w as Value, b, options),
});
const convCases: OpCase[] = [
  conv('3x3, padded all around', [2, 3, 5, 4], [4, 3, 3, 3], { pads: [1, 1, 1, 1] }),
  conv('3x3 without pads', [2, 3, 5, 4], [4, 3, 3, 3], {}),
  conv('1x1', [2, 3, 5, 4], [4, 3, 1, 1], {}),
  conv('5x3', [1, 2, 6, 5], [2, 2, 5, 3], { pads: [2, 1, 2, 1] }),
  conv('of stride 2, padded as torch', [2, 3, 6, 6], [4, 3, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }),
  conv('of stride 2, padded as diffusers', [2, 3, 8, 6], [2, 3, 3, 3], {
    strides: [2, 2],
    pads: [0, 0, 1, 1],
  }),
  conv('of stride 2 with a row left over', [1, 2, 8, 7], [3, 2, 3, 3], { strides: [2, 2] }),
  conv('with uneven pads', [1, 2, 6, 7], [3, 2, 3, 2], { pads: [0, 1, 2, 0] }),
  conv('in two groups', [2, 4, 5, 5], [6, 2, 3, 3], { group: 2, pads: [1, 1, 1, 1] }),
  {
    name: 'ConvTranspose of stride 2, with pads and a row added',
    shapes: [[2, 4, 4, 3], [4, 3, 3, 3], [3]],
    build: ([x, w, b]) =>
      ops.convTranspose2d(x as Value, w as Value, b, {
        strides: [2, 2],
        pads: [1, 1, 1, 1],
        outputPadding: [1, 1],
      }),
  },
  {
    name: 'ConvTranspose with a row added and none cut off',
    shapes: [
      [1, 2, 3, 3],
      [2, 2, 2, 2],
    ],
    build: ([x, w]) =>
      ops.convTranspose2d(x as Value, w as Value, undefined, { strides: [2, 2], outputPadding: [1, 0] }),
  },
];
const more: OpCase[] = [
  {
    name: 'Softmax along the first axis',
    shapes: [[3, 2, 4]],
    build: ([x]) => ops.softmax(x as Value, 0),
  },
  {
    name: 'Gather, counted from the end too',
    shapes: [[4, 3]],
    build: ([x]) => ops.gather(x as Value, int64Vector(x as Value, [1, -1, 1, 0])),
  },
  {
    name: 'MatMul of a matrix with a batch',
    shapes: [
      [3, 2],
      [4, 2, 5],
    ],
    build: ([a, b]) => ops.matmul(a as Value, b as Value),
  },
  {
    name: 'MatMul of four axes',
    shapes: [
      [2, 3, 4, 5],
      [2, 3, 5, 2],
    ],
    build: ([a, b]) => ops.matmul(a as Value, b as Value),
  },
  {
    name: 'Expand to five axes',
    shapes: [[2, 1, 3]],
    build: ([x]) => ops.expandTo(x as Value, [2, 2, 2, 2, 3]),
  },
  {
    name: 'Max and Min where both are equal',
    shapes: [[2, 3]],
    build: ([x]) =>
      ops.add(
        ops.maximum(x as Value, ops.mul(x as Value, scalarLike(x as Value, 1))),
        ops.minimum(x as Value, x as Value),
      ),
  },
  {
    name: 'Abs and Relu at 0',
    shapes: [[2, 3]],
    domain: () => 0,
    build: ([x]) => ops.add(ops.abs(x as Value), ops.relu(x as Value)),
  },
  {
    name: 'Clip at its limits',
    shapes: [[6]],
    domain: (x) => Math.sign(x),
    build: ([x]) => ops.clip(x as Value, -1, 1),
  },
  {
    name: 'MaxPool of windows side by side',
    shapes: [[2, 3, 4, 6]],
    build: ([x]) => ops.maxPool(x as Value, [2, 3]),
  },
  {
    name: 'MaxPool where several are the largest',
    shapes: [[1, 2, 5, 5]],
    domain: () => 1,
    build: ([x]) => ops.maxPool(x as Value, [3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }),
  },
  {
    name: 'ReduceMax and ReduceMin where several are',
    shapes: [[3, 4]],
    domain: Math.sign,
    build: ([x]) => ops.add(ops.reduceMax(x as Value, [1]), ops.reduceMin(x as Value, [-1])),
  },
  {
    name: 'ArgMin, the first where several are the smallest',
    shapes: [[3, 4]],
    domain: Math.sign,
    build: ([x]) => ops.gather(x as Value, ops.argMin(ops.stopGradient(x as Value), 0)),
  },
  {
    name: 'Round of halves, to the even',
    shapes: [[8]],
    domain: (x) => Math.round(2 * x) / 2,
    build: ([x]) => ops.round(x as Value),
  },
  {
    name: 'Tile of five axes',
    shapes: [[2, 1, 3, 1, 2]],
    build: ([x]) => ops.tile(x as Value, [1, 3, 2, 1, 2]),
  },
  {
    name: 'stopGradient',
    shapes: [[2, 3]],
    build: ([x]) =>
      ops.add(ops.mul(ops.stopGradient(ops.square(x as Value)), x as Value), ops.stopGradient(x as Value)),
  },
  {
    name: 'Gather of one slice',
    shapes: [[4, 3]],
    build: ([x]) => ops.gather(x as Value, (x as Value).graph.constant('int64', [], BigInt64Array.of(-2n))),
  },
  {
    name: 'Cast to int64 and back, which has no gradient',
    shapes: [[2, 3]],
    domain: (x) => 3 * x,
    build: ([x]) => ops.add(ops.cast(ops.cast(x as Value, 'int64'), 'float32'), x as Value),
  },
];
const noFloat64 = plainCases.filter((test) => !test.name.includes('float64'));

describe('each op and its gradient on tfjs equal those of onnxruntime and our rules', () => {
  it.each<OpCase>([...float64Cases, ...noFloat64, ...convCases, ...more])('$name', async (test) => {
    const [expected, actual] = [await byOnnxruntime(test), await byTfjs(test)];
    expect(actual).toHaveLength(expected.length);
    // Both in float32, of sums of at most some hundred terms. tfjs's erf is good to 1.5e-7.
    expected.forEach((values, i) => {
      expect(relativeError(actual[i] ?? [], values)).toBeLessThan(1e-5);
    });
  });

  it('leaves no tensors behind', async () => {
    const before = tf.memory().numTensors;
    for (const test of [...convCases, ...more]) await byTfjs(test);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('is there for every op that our rules differentiate', () => {
    const missing = registeredOps().filter(({ opType, gradient }) => {
      const [domain, name] = opType.includes(':') ? opType.split(':') : ['', opType];
      return (
        gradient &&
        !findTfOp({
          name: '',
          opType: name ?? '',
          domain: domain ?? '',
          inputs: [],
          outputs: [],
          attributes: {},
        })
      );
    });
    expect(missing.map(({ opType }) => opType)).toEqual([]);
  });
});

describe('what our rules do not differentiate', () => {
  const sliced = (steps: number[], starts: number[], ends: number[]): OpCase => ({
    name: 'Slice',
    shapes: [[4, 5]],
    build: ([x]) =>
      apply('Slice', [x as Value, ...[starts, ends, [0, 1], steps].map((v) => int64Vector(x as Value, v))]),
  });

  it('Slice with steps, forwards and backwards', async () => {
    const [y = [], dx = []] = await byTfjs(sliced([2, -2], [0, -1], [4, -99]));
    expect(y).toHaveLength(6);
    // Rows 0 and 2, columns 4, 2 and 0: all other gradients are 0.
    const touched = dx.flatMap((value, i) => (value === 0 ? [] : [i]));
    expect(touched).toEqual([0, 2, 4, 10, 12, 14]);
    const [whole = []] = await byTfjs(sliced([1, 1], [0, 0], [4, 5]));
    expect(y).toEqual([4, 2, 0, 14, 12, 10].map((i) => whole[i]));
  });

  it('AveragePool with a row and a column left over', async () => {
    const pool = (shape: number[], build: OpCase['build']) =>
      byTfjs({ name: 'AveragePool', shapes: [shape], domain: () => 1, build });
    const ramp = (x: Value) =>
      x.graph.constant(
        'float32',
        [1, 1, 3, 3],
        Float32Array.from({ length: 9 }, (_, i) => i),
      );
    const [y = [], dx = []] = await pool([1, 1, 3, 3], ([x]) =>
      ops.averagePool(ops.mul(x as Value, ramp(x as Value)), [2, 2]),
    );
    expect(y).toEqual([(0 + 1 + 3 + 4) / 4]);
    expect(dx.flatMap((value, i) => (value === 0 ? [] : [i]))).toEqual([1, 3, 4]);
  });

  it('QuickGelu', async () => {
    const node = (x: Value, alpha: number) => {
      const { dtype, shape } = x;
      const attributes = { alpha: float(alpha) } as const;
      const { outputs } = x.graph.addNode('QuickGelu', [x], attributes, [{ dtype, shape }], 'com.microsoft');
      return outputs[0] as Value;
    };
    for (const alpha of [1, 1.702]) {
      const plain = (x: Value) => ops.mul(x, ops.sigmoid(ops.mul(x, scalarLike(x, alpha))));
      const test = { name: 'QuickGelu', shapes: [[3, 5]] };
      const actual = await byTfjs({ ...test, build: ([x]) => node(x as Value, alpha) });
      const expected = await byOnnxruntime({ ...test, build: ([x]) => plain(x as Value) });
      expected.forEach((values, i) => {
        expect(relativeError(actual[i] ?? [], values)).toBeLessThan(1e-6);
      });
    }
  });

  it('the mean and the inverse deviation of LayerNormalization', async () => {
    const test: OpCase = {
      name: 'LayerNormalization',
      shapes: [[3, 4]],
      build: ([x]) => {
        const one = (x as Value).graph.constant('float32', [4], new Float32Array(4).fill(1));
        const [y, mean, inverse] = applyOp('LayerNormalization', [x as Value, one], { outputCount: 3 });
        return ops.sub(ops.add(ops.div(y as Value, inverse as Value), mean as Value), x as Value);
      },
    };
    const [difference = []] = await byTfjs(test);
    expect(Math.max(...difference.map(Math.abs))).toBeLessThan(1e-6);
  });
});
