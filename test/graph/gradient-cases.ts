import type { Value } from '../../src/graph/graph.ts';
import * as ops from '../../src/graph/ops/index.ts';
import { apply, float } from '../../src/graph/registry.ts';

/** Ops to be differentiated, in float64. */
export interface Case {
  readonly name: string;
  readonly shapes: readonly (readonly number[])[];
  /** Adds the ops under test. */
  build(inputs: Value[]): Value;
  /** Where the inputs lie, for ops that are not defined or not smooth everywhere; default standard normal. */
  readonly domain?: ((normal: number) => number) | undefined;
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
    build: ([a, b, c]) => ops.gemm(a as Value, b as Value, c as Value, { transA, transB, alpha: 0.7, beta: 1.3 }),
  })),
);

export const float64Cases: Case[] = [
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
  unary('Softplus', ops.softplus),
  unary('LeakyRelu', (x) => apply('LeakyRelu', [x], { alpha: float(0.25) }), offZero),
  unary('SiLU', ops.silu),
  unary(
    'Clip',
    (x) => ops.clip(x, -0.05, 0.05),
    (x) => offZero(x) * 0.7,
  ),
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
  unary('ReduceMax over -1', (x) => ops.reduceMax(x, [-1])),
  unary('ReduceMin of all, kept', (x) => ops.reduceMin(x, undefined, { keepdims: true })),
  unary('Floor, whose slope is 0', (x) => ops.mul(ops.floor(x), x), offZero),
  unary('Ceil, whose slope is 0', (x) => ops.mul(ops.ceil(x), x), offZero),
  unary('Round, whose slope is 0', (x) => ops.mul(ops.round(x), x), offZero),
  unary('Sign, whose slope is 0', (x) => ops.mul(ops.sign(x), x), offZero),
  unary('Tile', (x) => ops.tile(x, [2, 3])),
  ...[
    [0, 6, 2],
    [1, 6, 3],
    [5, 0, -1],
    [5, -100, -2],
  ].map(([start = 0, end = 0, step = 1]) => ({
    name: `Slice ${start}:${end}:${step}`,
    shapes: [[2, 6]],
    build: ([x]: Value[]) =>
      apply('Slice', [
        x as Value,
        ...[start, end, 1, step].map((value) =>
          (x as Value).graph.constant('int64', [1], BigInt64Array.of(BigInt(value))),
        ),
      ]),
  })),
  unary('SiLU as a product with a gate', (x) => ops.siluFromGate(x, ops.sigmoid(x))),
  unary('a value used three times', (x) => ops.add(ops.mul(x, x), x)),
];
