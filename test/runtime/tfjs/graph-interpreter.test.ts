import { describe, expect, it } from 'vitest';
import { GraphError } from '../../../src/errors.ts';
import { Graph, type Value } from '../../../src/graph/graph.ts';
import * as ops from '../../../src/graph/ops/index.ts';
import { apply, int64Vector } from '../../../src/graph/registry.ts';
import { differentiableAncestors, GraphInterpreter } from '../../../src/runtime/tfjs/graph-interpreter.ts';
import { asTfjs } from '../../../src/runtime/tfjs/tf-module.ts';
import { tf as module } from './load-tf.ts';

const tf = asTfjs(module);

describe('GraphInterpreter', () => {
  it('lists all that tfjs cannot compute in one error, before any work', () => {
    const graph = new Graph('g');
    const x = graph.input('x', 'float32', [1, 1, 4, 4]);
    const weight = graph.constant('float32', [1, 1, 2, 2], new Float32Array(4), 'weight');
    const dilated = ops.conv2d(x, weight, undefined, { dilations: [2, 2] });
    const wide = ops.cast(ops.cast(dilated, 'float64'), 'float32');
    const index = int64Vector(x, [0, 0, 0, 0]);
    const scattered = apply('ScatterND', [wide, ops.reshape(index, [1, 4]), ops.slice(ops.reshape(x, [16]), 0, 1, 0)]);
    const large = graph.constant('int64', [1], BigInt64Array.of(2n ** 40n), 'large');
    const output = ops.add(scattered, ops.cast(large, 'float32'));
    const before = module.memory().numTensors;
    const compile = () => GraphInterpreter.compile(tf, [output]);
    expect(compile).toThrow(GraphError);
    for (const problem of [
      /no gradient for the dilations \[2, 2\]/,
      /tfjs has no float64/,
      /op ScatterND\) has no counterpart/,
      /constant 'large' holds 1099511627776/,
    ])
      expect(compile).toThrow(problem);
    expect(module.memory().numTensors).toBe(before);
  });

  it('computes only what its outputs need', async () => {
    const graph = new Graph('g');
    const x = graph.input('x', 'float32', [2]);
    ops.cast(x, 'float64');
    const interpreter = GraphInterpreter.compile(tf, [ops.square(x)]);
    const [y] = interpreter.run(new Map([[x, tf.tensor(Float32Array.of(2, 3), [2], 'float32')]]));
    expect(await y?.data()).toEqual(Float32Array.of(4, 9));
  });

  it('names an input that is not given', () => {
    const graph = new Graph('g');
    const x = graph.input('x', 'float32', [2]);
    expect(() => GraphInterpreter.compile(tf, [ops.square(x)]).run(new Map())).toThrow(/'x' was not given/);
  });
});

it('differentiableAncestors leaves out what only decides', () => {
  const graph = new Graph('g');
  const [a, b, c, table, unused] = ['a', 'b', 'c', 'table', 'unused'].map((name) =>
    graph.input(name, 'float32', [2]),
  ) as [Value, Value, Value, Value, Value];
  const index = ops.cast(c, 'int32');
  const loss = ops.reduceSum(ops.add(ops.where(ops.greater(a, b), b, b), ops.gather(table, index)));
  const found = differentiableAncestors(loss);
  expect([a, b, c, table, unused].map((value) => found.has(value))).toEqual([false, true, false, true, false]);
});
