import { describe, expect, it } from 'vitest';
import { GradientError, GraphError } from '../../src/errors.ts';
import {
  add,
  apply,
  defineOp,
  exp,
  float,
  floatAttribute,
  Graph,
  gradients,
  greater,
  mul,
  readOnnx,
  reduceSum,
  required,
  scalarLike,
  square,
  tanh,
  type Value,
  where,
  withGradient,
  writeOnnx,
} from '../../src/graph/index.ts';
import { runGraph } from '../models/run-graph.ts';

/** Ops that onnxruntime has and this package has not, as a user would add them: one of ONNX's own domain, one of another. */
defineOp({
  opType: 'Elu',
  infer: ({ x }) => x,
  gradient: ({ x, y, dy, attributes }) => {
    const alpha = scalarLike(x, floatAttribute(attributes, 'alpha', 1));
    return where(greater(x, scalarLike(x, 0)), dy, mul(dy, add(y, alpha)));
  },
});
const elu = (x: Value, alpha = 1) => apply('Elu', [x], { alpha: float(alpha) });

/** GELU of x + bias. The bias broadcasts, and its gradient is summed to its shape without a word in the rule. */
defineOp({
  opType: 'com.microsoft:BiasGelu',
  infer: ({ x }) => x,
  gradient: (context) => {
    const z = add(context.x, required(context, 1));
    const slope = (cdf: Value, density: Value) => mul(context.dy, add(cdf, mul(z, density)));
    const half = scalarLike(z, 0.5);
    const cdf = mul(half, add(scalarLike(z, 1), apply('Erf', [mul(z, scalarLike(z, Math.SQRT1_2))])));
    const density = mul(exp(mul(square(z), scalarLike(z, -0.5))), scalarLike(z, 1 / Math.sqrt(2 * Math.PI)));
    return [() => slope(cdf, density), () => slope(cdf, density)];
  },
});
const biasGelu = (x: Value, bias: Value) => apply('com.microsoft:BiasGelu', [x, bias]);

const point = Float32Array.from([-1.5, -0.4, 0.3, 0.8, -0.9, 1.7]);
const bias = Float32Array.from([0.2, -0.1, 0.4]);

function network(): Graph {
  const graph = new Graph('network');
  const x = graph.input('x', 'float32', [2, 3]);
  const b = graph.input('b', 'float32', [3]);
  const loss = reduceSum(square(biasGelu(elu(x, 0.7), b)));
  const [dx, db] = gradients(loss, [x, b]);
  graph.output('loss', loss);
  if (dx) graph.output('dx', dx);
  if (db) graph.output('db', db);
  return graph;
}

const run = (graph: Graph, x: Float32Array, b: Float32Array) =>
  runGraph(graph, {
    x: { dtype: 'float32', shape: [2, 3], data: x },
    b: { dtype: 'float32', shape: [3], data: b },
  });

/** The Gauss error function by its series, good to float64 for small x. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 60; n++) {
    term *= -(x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

/** The network in plain numbers. */
function plainLoss(x: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(x).reduce((sum, value, i) => {
    const z = (value > 0 ? value : 0.7 * (Math.exp(value) - 1)) + (b[i % 3] ?? 0);
    return sum + ((z / 2) * (1 + erf(z * Math.SQRT1_2))) ** 2;
  }, 0);
}

function slopes(loss: (values: Float64Array) => number, at: Float32Array): number[] {
  const h = 1e-5;
  return Array.from(at, (_, i) => {
    const moved = (step: number) => Float64Array.from(at, (value, j) => (i === j ? value + step : value));
    return (loss(moved(h)) - loss(moved(-h))) / (2 * h);
  });
}

describe('an op that a user defines', () => {
  it('runs in onnxruntime and has the gradient of central differences', async () => {
    const { loss, dx, db } = await run(network(), point, bias);
    expect(loss?.data[0]).toBeCloseTo(plainLoss(point, bias), 5);
    slopes((x) => plainLoss(x, bias), point).forEach((slope, i) => {
      expect(dx?.data[i]).toBeCloseTo(slope, 4);
    });
    slopes((b) => plainLoss(point, b), bias).forEach((slope, i) => {
      expect(db?.data[i]).toBeCloseTo(slope, 4);
    });
  });

  it('is written to an ONNX file and read back, also where its inputs are not those of the file', async () => {
    const graph = network();
    const reopened = readOnnx(writeOnnx(graph));
    expect(reopened.nodes.map(({ domain }) => domain)).toContain('com.microsoft');
    const [first, second] = [await run(graph, point, bias), await run(reopened, point, bias)];
    expect(Number(second.loss?.data[0])).toBeCloseTo(Number(first.loss?.data[0]), 5);
  });

  it('is refused where it is defined a second time, and unknown names are told how to be defined', () => {
    expect(() => defineOp({ opType: 'Elu', infer: ({ x }) => x })).toThrow(GraphError);
    expect(() => defineOp({ opType: 'Add', infer: ({ x }) => x })).toThrow(/'Add' is defined already/);
    const x = new Graph('unknown').input('x', 'float32', [2]);
    expect(() => apply('com.example:Nothing', [x])).toThrow(/'com.example:Nothing' is not known.*defineOp/);
  });

  it('is named where its gradient has a shape that its input cannot have been broadcast to', () => {
    defineOp({
      opType: 'Hardmax',
      infer: ({ x }) => x,
      gradient: ({ dy }) => reduceSum(dy, [0]),
    });
    const x = new Graph('wrong').input('x', 'float32', [2, 3]);
    const loss = reduceSum(apply('Hardmax', [x]));
    expect(() => gradients(loss, [x])).toThrow(GradientError);
    expect(() => gradients(loss, [x])).toThrow(/'Hardmax' gave float32 \[3\] for the input 'x'.*\[2, 3\]/);
  });

  it('needs no gradient rule where withGradient gives one', async () => {
    defineOp({ opType: 'Hardswish', infer: ({ x }) => x });
    defineOp({ opType: 'Mish', infer: ({ x }) => x });
    const graph = new Graph('custom');
    const x = graph.input('x', 'float32', [2, 3]);
    const y = withGradient(apply('Mish', [x]), [x], (dy) => [mul(dy, tanh(x))]);
    const [dx] = gradients(reduceSum(y), [x]);
    if (dx) graph.output('dx', dx);
    const { dx: found } = await runGraph(graph, { x: { dtype: 'float32', shape: [2, 3], data: point } });
    point.forEach((value, i) => {
      expect(found?.data[i]).toBeCloseTo(Math.tanh(value), 5);
    });
    expect(() => gradients(reduceSum(apply('Hardswish', [x])), [x])).toThrow(/no gradient rule.*Hardswish/);
  });
});
