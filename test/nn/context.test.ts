import { describe, expect, it } from 'vitest';
import { GraphError } from '../../src/errors.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { groupNorm, identity, matmul, mul, reduceSum, reshape, square, tanh } from '../../src/graph/ops/index.ts';
import { ForwardContext } from '../../src/nn/context.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { relativeError, runGraph } from '../models/run-graph.ts';

const random = (seed: number, length: number) => new RandomStream(seed).fillNormal(new Float64Array(length));
const data = { x: random(1, 48), w: random(2, 144), v: random(3, 12), numbers: random(4, 0) };
const shapes = { x: [4, 12], w: [12, 12], v: [1, 12] };

type Mode = 'plain' | 'kept' | 'recomputed';

/** Two segments, one inside the other's, with dropout and a rule of their own, that share a weight and a value v. */
function network(mode: Mode) {
  const graph = new Graph('network');
  const lengths: number[] = [];
  const context = new ForwardContext(new Map(), {
    checkpoints: mode === 'plain' ? undefined : mode,
    dropoutNumbers: (samples, length) => {
      lengths.push(length);
      return graph.input(`numbers${lengths.length - 1}`, 'float32', [samples, length]);
    },
  });
  const input = (name: keyof typeof shapes) => graph.input(name, 'float64', shapes[name]);
  const [x, w, v] = [input('x'), input('w'), input('v')];
  const scale = mul(v, v);
  const weight = graph.constant('float64', [4], new Float64Array([1, 2, 3, 4]));
  const layer = (hidden: Value) => {
    const normalised = groupNorm(reshape(hidden, [4, 4, 3, 1]), 2, weight, weight, 1e-5);
    return context.dropout(mul(matmul(tanh(reshape(normalised, [4, 12])), w), scale), 0.3);
  };
  const first = context.checkpoint(layer, [x]);
  const second = context.checkpoint((a, b) => mul(context.checkpoint(layer, [a]), b), [first, x]);
  const loss = reduceSum(square(mul(second, x)));
  gradients(loss, [x, w, v]).forEach((gradient, i) => {
    graph.output(`d${i}`, identity(gradient));
  });
  graph.output('loss', identity(loss));
  return { graph, lengths };
}

async function run(mode: Mode, change: Partial<typeof data> = {}) {
  const { graph, lengths } = network(mode);
  const values = { ...data, ...change };
  const outputs = await runGraph(graph, {
    ...Object.fromEntries(
      Object.entries(shapes).map(([name, shape]) => [
        name,
        { dtype: 'float64' as const, shape, data: values[name as keyof typeof shapes] },
      ]),
    ),
    ...Object.fromEntries(
      lengths.map((length, i) => [
        `numbers${i}`,
        {
          dtype: 'float32' as const,
          shape: [4, length],
          data: Float32Array.from(random(9 + i, 4 * length), (z) => Math.round(300 * z)),
        },
      ]),
    ),
  });
  return {
    loss: outputs.loss?.data[0] ?? Number.NaN,
    gradients: ['d0', 'd1', 'd2'].map((name) => outputs[name]?.data ?? []),
    lengths,
    nodes: graph.nodes.length,
  };
}

describe('ForwardContext.checkpoint', () => {
  it('gives the gradients of the plain graph, and the same bits whether it recomputes or keeps', async () => {
    const [plain, kept, recomputed] = [await run('plain'), await run('kept'), await run('recomputed')];
    expect(recomputed.gradients).toEqual(kept.gradients);
    expect(recomputed.loss).toBe(plain.loss);
    expect(recomputed.lengths).toEqual(plain.lengths);
    // Segments add up their gradients in another order than single nodes do.
    recomputed.gradients.forEach((gradient, i) => {
      expect(relativeError(gradient, plain.gradients[i] ?? [])).toBeLessThan(1e-12);
    });
    expect(recomputed.nodes).toBeGreaterThan(1.4 * kept.nodes);
  });

  it('has the gradient of central differences, through what a segment closes over too', async () => {
    const { gradients: found } = await run('recomputed');
    for (const [i, name] of (['x', 'w', 'v'] as const).entries())
      for (const j of [0, 5, 11]) {
        const h = 1e-6;
        const at = async (step: number) => {
          const values = data[name].slice();
          values[j] = (values[j] as number) + step;
          return (await run('plain', { [name]: values })).loss;
        };
        const numeric = ((await at(h)) - (await at(-h))) / (2 * h);
        const slope = found[i]?.[j] ?? Number.NaN;
        expect(Math.abs(slope - numeric)).toBeLessThan(1e-5 * (1 + Math.abs(numeric)));
      }
  });

  it('adds nothing in a forward pass without gradients', () => {
    const graph = new Graph('eval');
    const x = graph.input('x', 'float32', [2]);
    new ForwardContext(new Map()).checkpoint((part) => mul(part, part), [x]);
    expect(graph.nodes.map(({ opType }) => opType)).toEqual(['Mul']);
  });
});

describe('ForwardContext', () => {
  it('has no dropout where the model is used, not trained', () => {
    const x = new Graph('eval').input('x', 'float32', [2]);
    expect(new ForwardContext(new Map()).dropout(x, 0.5)).toBe(x);
  });

  it('names the class of the model whose parameter is missing', () => {
    const context = new ForwardContext(new Map(), { modelName: 'TinyDiT' });
    expect(() => context.parameter('proj.weight')).toThrow(GraphError);
    expect(() => context.parameter('proj.weight')).toThrow("TinyDiT: parameter 'proj.weight' is missing");
  });
});
