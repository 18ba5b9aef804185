import { describe, expect, it } from 'vitest';
import { GradientError } from '../../src/errors.ts';
import { gradients } from '../../src/graph/gradients.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { apply } from '../../src/graph/op-registry.ts';
import * as ops from '../../src/graph/ops/index.ts';
import { elementCount } from '../../src/graph/tensor-type.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';

interface Case {
  readonly name: string;
  readonly shapes: readonly (readonly number[])[];
  /** Adds the ops under test. */
  build(inputs: Value[]): Value;
  /** Where the inputs lie, for ops that are not defined or not smooth everywhere; default standard normal. */
  readonly domain?: (normal: number) => number;
}

const positive = (x: number) => 0.5 + Math.abs(x);
/** Away from the kink at 0, by much more than the step of the differences. */
const offZero = (x: number) => x + Math.sign(x) * 0.1;
const unary = (name: string, op: (x: Value) => Value, domain?: (x: number) => number): Case => ({
  name,
  shapes: [[2, 3]],
  build: ([x]) => op(x as Value),
  domain,
});
const binary = (name: string, op: (a: Value, b: Value) => Value, domain?: (x: number) => number): Case[] =>
  [
    [
      [2, 3],
      [2, 3],
    ],
    [[2, 3], [3]],
    [[1], [2, 3]],
    [
      [2, 1, 3],
      [4, 1],
    ],
  ].map((shapes) => ({
    name: `${name} of ${JSON.stringify(shapes)}`,
    shapes,
    build: ([a, b]) => op(a as Value, b as Value),
    domain,
  }));
const gemmCases: Case[] = [false, true].flatMap((transA) =>
  [false, true].map((transB) => ({
    name: `Gemm transA ${transA} transB ${transB}`,
    shapes: [transA ? [3, 2] : [2, 3], transB ? [4, 3] : [3, 4], [4]],
    build: ([a, b, c]) =>
      ops.gemm(a as Value, b as Value, c as Value, { transA, transB, alpha: 0.7, beta: 1.3 }),
  })),
);

const cases: Case[] = [
  unary('Neg', ops.neg),
  unary('Exp', ops.exp),
  unary('Log', ops.log, positive),
  unary('Sqrt', ops.sqrt, positive),
  unary('Reciprocal', ops.reciprocal, positive),
  unary('Sin', ops.sin),
  unary('Cos', ops.cos),
  unary('Tanh', ops.tanh),
  unary('Sigmoid', ops.sigmoid),
  unary('Relu', ops.relu, offZero),
  unary('Abs', ops.abs, offZero),
  unary('Identity', ops.identity),
  unary('SiLU', ops.silu),
  unary(
    'Clip',
    (x) => ops.clip(x, -0.05, 0.05),
    (x) => offZero(x) * 0.7,
  ),
  unary('Cast', (x) => ops.cast(ops.cast(x, 'float64'), 'float64')),
  ...binary('Add', ops.add),
  ...binary('Sub', ops.sub),
  ...binary('Mul', ops.mul),
  ...binary('Div', ops.div, positive),
  ...binary('Pow', ops.pow, positive),
  ...binary('Max', ops.maximum),
  ...binary('Min', ops.minimum),
  ...binary('Where', (a, b) => ops.where(ops.greater(a, b), ops.square(a), ops.neg(b))),
  {
    name: 'MatMul',
    shapes: [
      [2, 3],
      [3, 4],
    ],
    build: ([a, b]) => ops.matmul(a as Value, b as Value),
  },
  {
    name: 'MatMul in batches',
    shapes: [
      [2, 2, 3],
      [3, 4],
    ],
    build: ([a, b]) => ops.matmul(a as Value, b as Value),
  },
  {
    name: 'MatMul with broadcast batches',
    shapes: [
      [1, 2, 3],
      [5, 3, 2],
    ],
    build: ([a, b]) => ops.matmul(a as Value, b as Value),
  },
  ...gemmCases,
  {
    name: 'Gemm with a full C',
    shapes: [
      [2, 3],
      [3, 4],
      [2, 4],
    ],
    build: ([a, b, c]) => ops.gemm(a as Value, b as Value, c as Value),
  },
  unary('ReduceSum of all', (x) => ops.reduceSum(x)),
  unary('ReduceSum over -1', (x) => ops.reduceSum(x, [-1])),
  unary('ReduceSum kept', (x) => ops.reduceSum(x, [0], { keepdims: true })),
  unary('ReduceMean of all', (x) => ops.reduceMean(x)),
  unary('ReduceMean over 0', (x) => ops.reduceMean(x, [0])),
  unary('Reshape', (x) => ops.reshape(x, [3, -1])),
  unary('Unsqueeze', (x) => ops.unsqueeze(x, [0, 2])),
  unary('Squeeze', (x) => ops.squeeze(ops.unsqueeze(x, [1]), [1])),
  unary('Expand', (x) => ops.expandTo(x, [4, 2, 3])),
  unary('Transpose', (x) => ops.transpose(x)),
  {
    name: 'Transpose of three axes',
    shapes: [[2, 3, 4]],
    build: ([x]) => ops.transpose(x as Value, [2, 0, 1]),
  },
  {
    name: 'Concat',
    shapes: [
      [2, 3],
      [2, 1],
    ],
    build: ([a, b]) => ops.concat([a as Value, b as Value], 1),
  },
  unary('Split, one piece unused', (x) => {
    const [first, , third] = ops.split(x, [1, 1, 1], 1) as [Value, Value, Value];
    return ops.mul(first, third);
  }),
  unary('Slice', (x) => ops.slice(x, 1, 3, 1)),
  unary('Pad', (x) => ops.pad(x, [1, 0, 2, 1])),
  unary('a value used three times', (x) => ops.add(ops.mul(x, x), x)),
];

/** The loss is a fixed random weighting of the output, so that every element's derivative counts. */
function lossGraph({ shapes, build }: Case): { graph: Graph; inputs: Value[]; loss: Value } {
  const graph = new Graph('case');
  const inputs = shapes.map((shape, i) => graph.input(`x${i}`, 'float64', shape));
  const output = build(inputs);
  const count = elementCount(output.shape);
  const weights = new RandomStream(7).fillNormal(new Float64Array(count));
  const flat = ops.reshape(output, [count]);
  return {
    graph,
    inputs,
    loss: ops.reduceSum(ops.mul(flat, graph.constant('float64', [count], weights, 'weights'))),
  };
}

describe('gradient rules against central differences in float64', () => {
  it.each(cases)('$name', async (testCase) => {
    const { graph, inputs, loss } = lossGraph(testCase);
    graph.output('loss', ops.identity(loss));
    gradients(loss, inputs).forEach((gradient, i) => {
      expect(gradient.shape).toEqual(inputs[i]?.shape);
      graph.output(`d${i}`, ops.identity(gradient));
    });
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const stream = new RandomStream(3);
    const point = testCase.shapes.map((shape) =>
      stream.fillNormal(new Float64Array(elementCount(shape))).map(testCase.domain ?? ((x) => x)),
    );
    const run = async () =>
      session.run(
        Object.fromEntries(
          point.map((data, i) => [`x${i}`, hostTensor('float64', testCase.shapes[i] ?? [], data.slice())]),
        ),
      );

    const lossAt = async () => Number((await run()).loss?.data[0]);
    const analytic = await run();
    const step = 1e-5;
    for (const [i, data] of point.entries()) {
      const gradient = analytic[`d${i}`]?.data as Float64Array;
      let error = 0;
      let size = 0;
      for (let j = 0; j < data.length; j++) {
        const kept = data[j] as number;
        data[j] = kept + step;
        const above = await lossAt();
        data[j] = kept - step;
        const below = await lossAt();
        data[j] = kept;
        const numeric = (above - below) / (2 * step);
        error += (numeric - (gradient[j] as number)) ** 2;
        size += numeric ** 2;
      }
      // The promise is 1e-4; central differences in float64 at this step are good to about 1e-9.
      expect(Math.sqrt(error)).toBeLessThanOrEqual(1e-6 * Math.sqrt(size) + 1e-9);
    }
    await session.release();
  });

  it('Gather, whose scatter runs in float32', async () => {
    const graph = new Graph('gather');
    const table = graph.input('table', 'float32', [3, 2]);
    const picked = ops.gather(table, graph.constant('int64', [3], BigInt64Array.of(2n, 0n, 2n)));
    const [gradient] = gradients(ops.reduceSum(ops.square(picked)), [table]);
    graph.output('gradient', ops.identity(gradient as Value));
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const result = await session.run({
      table: hostTensor('float32', [3, 2], Float32Array.of(1, 2, 3, 4, 5, 6)),
    });
    // d/dx sum of x^2 over rows 2, 0, 2.
    expect(Array.from(result.gradient?.data as Float32Array)).toEqual([2, 4, 0, 0, 20, 24]);
  });
});

describe('gradients', () => {
  it('name every node and op without a rule', () => {
    const graph = new Graph('g');
    const x = graph.input('x', 'float32', [4]);
    const indices = graph.constant('int64', [1, 1], BigInt64Array.of(0n));
    const scattered = apply('ScatterND', [x, indices, ops.slice(x, 0, 1, 0)]);
    expect(() => gradients(ops.reduceSum(scattered), [x])).toThrow(GradientError);
    expect(() => gradients(ops.reduceSum(scattered), [x])).toThrow(/node 'ScatterND_1' \(op ScatterND\)/);
  });

  it('are zero for what the loss does not depend on', async () => {
    const graph = new Graph('g');
    const x = graph.input('x', 'float32', [2]);
    const unused = graph.input('unused', 'float32', [3]);
    const [dUnused] = gradients(ops.reduceSum(x), [unused]);
    graph.output('d', ops.identity(dUnused as Value));
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const feeds = {
      x: hostTensor('float32', [2], new Float32Array(2)),
      unused: hostTensor('float32', [3], new Float32Array(3)),
    };
    expect(Array.from((await session.run(feeds)).d?.data as Float32Array)).toEqual([0, 0, 0]);
  });

  it('need a loss of one float', () => {
    const graph = new Graph('g');
    const x = graph.input('x', 'float32', [2]);
    expect(() => gradients(x, [x])).toThrow(/must be one float.*\[2\]/);
  });
});
