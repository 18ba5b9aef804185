import { expect, test } from 'vitest';
import { GraphError } from '../../src/errors.ts';
import {
  and,
  cast,
  equal,
  Graph,
  greater,
  greaterOrEqual,
  less,
  lessOrEqual,
  mul,
  not,
  or,
  scalarLike,
  type Value,
  xor,
} from '../../src/graph/index.ts';
import { runGraph } from '../models/run-graph.ts';

test('a constant keeps the name it is given, and gets a number where the name is taken', () => {
  const graph = new Graph('names');
  const x = graph.input('x', 'float32', []);
  const lambda = scalarLike(x, 0.3, 'lambda');
  const other = scalarLike(x, 0.5, 'lambda');
  expect(lambda.name).toBe('lambda');
  expect(other.name).not.toBe('lambda');
  expect(other.name).toMatch(/^lambda_/);
  expect(mul(x, other).producer?.inputs[1]?.data).toEqual(Float32Array.of(0.5));
});

test('a constant without a name is kept once for equal contents, one with a name is not', () => {
  const graph = new Graph('sharing');
  const x = graph.input('x', 'float32', []);
  expect(scalarLike(x, 2)).toBe(scalarLike(x, 2));
  expect(scalarLike(x, 2, 'two')).not.toBe(scalarLike(x, 2));
  expect(scalarLike(x, -0)).not.toBe(scalarLike(x, 0));
});

test('a constant that is made once is found by its key, also in the body of a loop', () => {
  const graph = new Graph('tables');
  const make = (value: number) => () => ({ dtype: 'float32', shape: [1], data: Float32Array.of(value) }) as const;
  const table = graph.constantOnce('table', make(1));
  expect(graph.constantOnce('table', make(2))).toBe(table);
  expect(new Graph('body', graph).constantOnce('table', make(3))).toBe(table);
  expect(graph.constantOnce('another', make(4)).data).toEqual(Float32Array.of(4));
});

test('a constant leaves the names of later outputs alone', () => {
  const graph = new Graph('reserved');
  graph.reserveNames(['loss']);
  const x = graph.input('x', 'float32', []);
  const constant = scalarLike(x, 1, 'loss');
  graph.output('loss', mul(x, constant));
  expect(constant.name).not.toBe('loss');
});

test('comparisons and logic give booleans, and broadcast', async () => {
  const graph = new Graph('logic');
  const [a, b] = [graph.input('a', 'float32', [2, 1]), graph.input('b', 'float32', [3])];
  const [left, right] = [
    [1, 2],
    [1, 2, 3],
  ];
  const pairs: Record<string, [Value, (x: number, y: number) => boolean]> = {
    greater: [greater(a, b), (x, y) => x > y],
    less: [less(a, b), (x, y) => x < y],
    equal: [equal(a, b), (x, y) => x === y],
    greaterOrEqual: [greaterOrEqual(a, b), (x, y) => x >= y],
    lessOrEqual: [lessOrEqual(a, b), (x, y) => x <= y],
    and: [and(lessOrEqual(a, b), greaterOrEqual(a, b)), (x, y) => x <= y && x >= y],
    or: [or(less(a, b), greater(a, b)), (x, y) => x < y || x > y],
    xor: [xor(lessOrEqual(a, b), greaterOrEqual(a, b)), (x, y) => x <= y !== x >= y],
    not: [not(less(a, b)), (x, y) => !(x < y)],
  };
  for (const [name, [value]] of Object.entries(pairs)) {
    expect(value.dtype).toBe('bool');
    graph.output(`is_${name}`, cast(value, 'float32'));
  }
  const outputs = await runGraph(graph, {
    a: { dtype: 'float32', shape: [2, 1], data: Float32Array.from(left) },
    b: { dtype: 'float32', shape: [3], data: Float32Array.from(right) },
  });
  for (const [name, [, test]] of Object.entries(pairs))
    expect([name, outputs[`is_${name}`]?.data]).toEqual([
      name,
      left.flatMap((x) => right.map((y) => (test(x, y) ? 1 : 0))),
    ]);
  expect(() => and(a, greater(a, b))).toThrow(GraphError);
  expect(() => or(a, a)).toThrow(/'a' is float32, not bool/);
});
