import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import {
  convInputGradient,
  convWeightGradient,
  type InputFormulation,
  type WeightFormulation,
} from '../../src/graph/ops/conv/gradients.ts';
import { type ConvGeometry, conv2d, convTranspose2d, identity, mul, reduceSum } from '../../src/graph/ops/index.ts';
import { elementCount } from '../../src/graph/types.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { plainConv } from './conv-reference.ts';

interface ConvCase extends ConvGeometry {
  readonly name: string;
  readonly x: number[];
  readonly weight: number[];
}
const plain = { strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1], group: 1 } as const;
const cases: ConvCase[] = [
  { ...plain, name: '3x3, padded', x: [2, 3, 6, 5], weight: [4, 3, 3, 3] },
  { ...plain, name: '3x3 on 16x16', x: [2, 3, 16, 16], weight: [5, 3, 3, 3] },
  { ...plain, name: '1x1', pads: [0, 0, 0, 0], x: [2, 3, 5, 4], weight: [4, 3, 1, 1] },
  { ...plain, name: 'stride 2', strides: [2, 2], x: [2, 3, 8, 8], weight: [4, 3, 3, 3] },
  {
    ...plain,
    name: 'stride 2, padded below and right as diffusers',
    strides: [2, 2],
    pads: [0, 0, 1, 1],
    x: [2, 3, 8, 6],
    weight: [2, 3, 3, 3],
  },
  {
    ...plain,
    name: 'stride 2, odd length',
    strides: [2, 2],
    pads: [0, 0, 0, 0],
    x: [1, 2, 8, 7],
    weight: [3, 2, 3, 3],
  },
  { ...plain, name: 'dilated', dilations: [2, 1], pads: [2, 1, 2, 1], x: [2, 2, 7, 6], weight: [3, 2, 3, 3] },
  {
    ...plain,
    name: 'rectangular filter, uneven pads',
    pads: [0, 1, 2, 0],
    x: [1, 2, 6, 7],
    weight: [3, 2, 3, 2],
  },
  { ...plain, name: '6 channels, which are filled up to 8', x: [2, 6, 5, 5], weight: [4, 6, 3, 3] },
  { ...plain, name: '6 responses, filled up for dx', x: [6, 4, 5, 5], weight: [6, 4, 3, 3] },
  { ...plain, name: '2 responses of 7 channels', x: [2, 7, 5, 4], weight: [2, 7, 3, 3] },
  { ...plain, name: 'two groups', group: 2, x: [2, 4, 5, 5], weight: [6, 2, 3, 3] },
];
const inputFormulations: InputFormulation[] = ['conv-transpose', 'flipped-conv', 'product'];
const weightFormulations: WeightFormulation[] = ['columns', 'response-columns', 'gathered-columns', 'transposed-conv'];

function random(shape: readonly number[], seed: number): Float32Array {
  return new RandomStream(seed).fillNormal(new Float32Array(elementCount(shape)));
}

async function run(graph: Graph, feeds: Record<string, [Float32Array, readonly number[]]>) {
  const session = await Session.create(writeOnnx(graph), 'cpu');
  const tensors = Object.entries(feeds).map(
    ([name, [data, shape]]) => [name, hostTensor('float32', shape, data)] as const,
  );
  const outputs = await session.run(Object.fromEntries(tensors));
  const copies = Object.entries(outputs).map(
    ([name, tensor]) => [name, Array.from(tensor.data as Float32Array)] as const,
  );
  await session.release();
  return Object.fromEntries(copies);
}

/** float32 sums of at most 54 products of standard normals: 1e-5 is some hundred roundings. */
function expectClose(actual: ArrayLike<number> | undefined, expected: ArrayLike<number>): void {
  const values = Array.from(expected);
  const error = Math.hypot(...values.map((value, i) => value - (actual?.[i] ?? Number.NaN)));
  expect(actual).toHaveLength(values.length);
  expect(error).toBeLessThan(1e-5 * Math.hypot(...values) + 1e-9);
}

/**
 * Dot products of dy with the plain convolution of x and unit weights, or of unit images and the weight: exact
 * derivatives in float64, since a convolution is linear in each.
 */
function plainGradients(test: ConvCase, x: Float32Array, weight: Float32Array, dy: Float32Array) {
  const along = (values: Float32Array, output: (unit: Float64Array) => Float64Array) =>
    Float64Array.from(values, (_, i) => {
      const unit = new Float64Array(values.length);
      unit[i] = 1;
      return output(unit).reduce((sum, value, k) => sum + value * (dy[k] as number), 0);
    });
  return {
    dx: along(x, (unit) => plainConv(unit, test.x, weight, test.weight, test).data),
    dw: along(weight, (unit) => plainConv(x, test.x, unit, test.weight, test).data),
  };
}

describe.each(cases)('Conv $name', (test) => {
  const x = random(test.x, 1);
  const weight = random(test.weight, 2);
  const forward = plainConv(x, test.x, weight, test.weight, test);
  const dy = random(forward.shape, 3);
  const expected = plainGradients(test, x, weight, dy);
  const inputs = (graph: Graph) => ({
    x: graph.input('x', 'float32', test.x),
    weight: graph.input('weight', 'float32', test.weight),
    dy: graph.input('dy', 'float32', forward.shape),
  });
  const feeds = { x: [x, test.x], weight: [weight, test.weight], dy: [dy, forward.shape] } as const;

  it('equals its definition, and so do its gradients', async () => {
    const graph = new Graph('conv');
    const values = inputs(graph);
    const bias = graph.constant('float32', [test.weight[0] ?? 0], new Float32Array(test.weight[0] ?? 0), 'bias');
    const y = conv2d(values.x, values.weight, bias, test);
    expect(y.shape).toEqual(forward.shape);
    graph.output('y', y);
    gradients(reduceSum(mul(y, values.dy)), [values.x, values.weight, bias]).forEach((gradient, i) => {
      graph.output(`d${i}`, identity(gradient));
    });
    const { y: output, d0, d1, d2 } = await run(graph, feeds as never);
    expectClose(output, forward.data);
    expectClose(d0, expected.dx);
    expectClose(d1, expected.dw);
    const [batch = 0, filters = 0, ...pixels] = forward.shape;
    const perFilter = elementCount(pixels);
    const dbias = Array.from({ length: filters }, (_, f) => {
      let sum = 0;
      for (let n = 0; n < batch; n++)
        for (let p = 0; p < perFilter; p++) sum += dy[(n * filters + f) * perFilter + p] as number;
      return sum;
    });
    expectClose(d2, dbias);
  });

  const unitStride = test.strides.every((stride) => stride === 1);
  it.each(
    inputFormulations.filter(
      (name) =>
        test.group === 1 && (name === 'conv-transpose' || unitStride) && (name !== 'product' || test.weight[2] === 1),
    ),
  )('input gradient by %s', async (formulation) => {
    const graph = new Graph('dx');
    const values = inputs(graph);
    graph.output('dx', convInputGradient(values.dy, values.weight, test.x, test, formulation));
    const { dx } = await run(graph, feeds as never);
    expectClose(dx, expected.dx);
  });

  it.each(
    weightFormulations.filter(
      (name) => name === 'transposed-conv' || (test.group === 1 && (name !== 'response-columns' || unitStride)),
    ),
  )('weight gradient by %s', async (formulation) => {
    const graph = new Graph('dw');
    const values = inputs(graph);
    graph.output('dw', convWeightGradient(values.dy, values.x, test.weight, test, formulation));
    const { dw } = await run(graph, feeds as never);
    expectClose(dw, expected.dw);
  });
});

it.each(['any', 'cuda'] as const)(
  'ConvTranspose is the adjoint of Conv, and differentiated as such, for %s',
  async (target) => {
    const test = cases[3] as ConvCase;
    const outShape = [2, 4, 4, 4];
    const y = random(outShape, 4);
    const weight = random(test.weight, 5);
    const dx = random(test.x, 6);
    const graph = new Graph('transpose', undefined, target);
    const inY = graph.input('y', 'float32', outShape);
    const inWeight = graph.input('weight', 'float32', test.weight);
    const inDx = graph.input('dx', 'float32', test.x);
    const output = convTranspose2d(inY, inWeight, undefined, { ...test, outputPadding: [1, 1] });
    expect(output.shape).toEqual(test.x);
    gradients(reduceSum(mul(output, inDx)), [inY, inWeight]).forEach((gradient, i) => {
      graph.output(`d${i}`, identity(gradient));
    });
    graph.output('output', output);
    const outputs = await run(graph, { y: [y, outShape], weight: [weight, test.weight], dx: [dx, test.x] });
    const expected = plainGradients(test, new Float32Array(elementCount(test.x)), weight, y);
    expectClose(outputs.output, expected.dx);
    expectClose(outputs.d0, plainConv(dx, test.x, weight, test.weight, test).data);
    expectClose(outputs.d1, plainGradients(test, dx, weight, y).dw);
  },
);
