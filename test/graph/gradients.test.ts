import { describe, expect, it } from 'vitest';
import { GradientError } from '../../src/errors.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import * as ops from '../../src/graph/ops/index.ts';
import { apply } from '../../src/graph/registry.ts';
import { elementCount } from '../../src/graph/types.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { type Case, float64Cases } from './gradient-cases.ts';

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

it('adds up the rows of many equal indices, each of them and in the same order every time', async () => {
  const [rows, width, table] = [6000, 128, 5];
  const graph = new Graph('embedding');
  const weight = graph.input('weight', 'float32', [table, width]);
  const indices = graph.input('indices', 'int32', [rows]);
  const scale = graph.input('scale', 'float32', [rows, 1]);
  const [gradient = weight] = gradients(ops.reduceSum(ops.mul(ops.gather(weight, indices), scale)), [weight]);
  graph.output('gradient', gradient);
  const session = await Session.create(writeOnnx(graph), 'cpu');
  const feeds = {
    weight: hostTensor('float32', [table, width], new Float32Array(table * width)),
    indices: hostTensor(
      'int32',
      [rows],
      Int32Array.from({ length: rows }, (_, i) => (i * 7919) % table),
    ),
    scale: hostTensor('float32', [rows, 1], new Float32Array(rows).fill(1)),
  };
  const expected = Array<number>(table * width).fill(rows / table);
  // In one ScatterND of onnxruntime, which has several threads for it, a tenth of such runs lost some of the rows.
  for (let run = 0; run < 40; run++)
    expect(Array.from((await session.run(feeds)).gradient?.data as Float32Array)).toEqual(expected);
  await session.release();
});

describe('gradient rules against central differences in float64', () => {
  it.each(float64Cases)('$name', async (testCase) => {
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

  it.each([
    ['int64', BigInt64Array.of(2n, 0n, 2n)],
    ['int32', Int32Array.of(2, 0, 2)],
  ] as const)('Gather by %s, whose scatter runs in float32', async (dtype, indices) => {
    const graph = new Graph('gather');
    const table = graph.input('table', 'float32', [3, 2]);
    const picked = ops.gather(table, graph.constant(dtype, [3], indices));
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

it('Gather along another axis adds up what was picked twice', async () => {
  const graph = new Graph('gather');
  const table = graph.input('table', 'float32', [2, 3]);
  const indices = graph.constant('int64', [2, 2], BigInt64Array.of(2n, 0n, 2n, -2n));
  const picked = ops.gather(table, indices, 1);
  expect(picked.shape).toEqual([2, 2, 2]);
  const [gradient] = gradients(ops.reduceSum(ops.square(picked)), [table]);
  graph.output('gradient', ops.identity(gradient as Value));
  const session = await Session.create(writeOnnx(graph), 'cpu');
  const result = await session.run({
    table: hostTensor('float32', [2, 3], Float32Array.of(1, 2, 3, 4, 5, 6)),
  });
  // d/dx sum of x^2 over columns 2, 0, 2 and 1.
  expect(Array.from(result.gradient?.data as Float32Array)).toEqual([2, 4, 12, 8, 10, 24]);
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
