import { expect, test } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { mul } from '../../src/graph/ops/index.ts';
import { scalarLike } from '../../src/graph/registry.ts';

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

test('a constant leaves the names of later outputs alone', () => {
  const graph = new Graph('reserved');
  graph.reserveNames(['loss']);
  const x = graph.input('x', 'float32', []);
  const constant = scalarLike(x, 1, 'loss');
  graph.output('loss', mul(x, constant));
  expect(constant.name).not.toBe('loss');
});
