import { describe, expect, it } from 'vitest';
import { graphCost } from '../../src/graph/cost.ts';
import { Graph } from '../../src/graph/graph.ts';
import { add, conv2d, loop, matmul, mul, reshape, silu } from '../../src/graph/index.ts';

describe('the cost of a graph', () => {
  it('of a convolutional net is what it is by hand', () => {
    const graph = new Graph('net');
    const x = graph.input('x', 'float32', ['batch_size', 3, 8, 8]);
    const weights = (name: string, shape: number[]) => graph.input(name, 'float32', shape);
    // 8x8 to 8x8 by 3x3, then to 4x4 by 3x3 with a stride of 2, then all of it to ten numbers.
    const first = silu(conv2d(x, weights('w1', [16, 3, 3, 3]), undefined, { pads: [1, 1, 1, 1] }));
    const second = conv2d(first, weights('w2', [32, 16, 3, 3]), undefined, { pads: [1, 1, 1, 1], strides: [2, 2] });
    graph.output('y', conv2d(second, weights('w3', [10, 32, 4, 4])));
    const ofOne = 2 * (8 * 8 * 16 * 27 + 4 * 4 * 32 * 144 + 512 * 10);
    expect(graphCost(graph).flops).toBe(ofOne);
    expect(graphCost(graph, { lengths: { batch_size: 5 } }).flops).toBe(5 * ofOne);
  });

  it('counts the trips of a Loop, and the values of its body beside those that wait for it', () => {
    const graph = new Graph('trips');
    const x = graph.input('x', 'float32', [10, 10]);
    const doubled = add(x, x);
    const trips = graph.constant('int64', [], BigInt64Array.of(7n));
    const looped = loop(trips, [x], (_body, _trip, [value = x]) => ({ state: [matmul(mul(value, value), doubled)] }));
    graph.output('y', looped.state[0] ?? x);
    const { flops, nodes, workingBytes } = graphCost(graph);
    expect(flops).toBe(7 * 2 * 10 ** 3);
    // Mul, MatMul, and an Identity for the condition.
    expect(nodes).toBe(2 + 7 * 3);
    expect(workingBytes).toBe(2 * 400);
  });

  it('keeps a value until it was last read, or its buffer until the last value of its size', () => {
    const graph = new Graph('kept');
    const x = graph.input('x', 'float32', [100]);
    const y = graph.input('y', 'float32', [100, 50]);
    const small = add(x, x);
    const large = add(reshape(small, [100, 1]), y);
    const other = mul(reshape(matmul(reshape(x, [1, 100]), large), [50]), graph.input('z', 'float32', [50]));
    // Of the size of the first, which nothing reads any more.
    const late = add(reshape(matmul(reshape(other, [1, 50]), graph.input('w', 'float32', [50, 100])), [100]), x);
    graph.output('late', mul(late, late));
    // The large one with the one that it is made of, or with the row that it is multiplied to.
    expect(graphCost(graph, { reusesBuffers: false }).workingBytes).toBe(400 + 20_000);
    // The product of the last rows is in the buffer of the first value, which therefore stays.
    expect(graphCost(graph).workingBytes).toBe(400 + 20_000 + 200);
  });
});
