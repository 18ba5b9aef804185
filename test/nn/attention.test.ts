import { expect, it } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { PixelAttention } from '../../src/nn/attention.ts';
import { ForwardContext } from '../../src/nn/context.ts';
import { hwnc } from '../../src/nn/hwnc.ts';
import { nchw } from '../../src/nn/layout.ts';
import { relativeError, runGraph } from '../models/run-graph.ts';

/** Numbers that torch can make too: sin(first), sin(first + 1), ... */
const waves = (first: number, shape: readonly number[]) =>
  Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(first + i));

// By torch 1.13 in float64: softmax(q k^T / 2) v in two heads of 4 over three pixels, with nn.functional.linear.
const torch = [
  ...[2.76842132, 3.300864407, 2.908494718, -3.839135716, -4.503369583, -4.247283404, -2.200306901, -1.480891839],
  ...[-1.622429905, 4.139152781, 3.373103412, 3.393839944, 2.28920512, 3.151574244, 3.279910626, -3.455871832],
  ...[-4.410368401, -4.689894705, -1.461564379, -0.495259757, -0.096631064, 3.406670318, 2.478779863, 1.981422406],
  ...[-1.634905348, -0.71177221, -0.102754758, -2.293168754, -3.239148206, -3.966691017],
];

it.each(Object.entries({ nchw, hwnc }))('heads of 4 leave 2 of 10 channels over, in %s', async (_, layout) => {
  const options = { channels: 10, head_dim: 4, norm_num_groups: null, norm_eps: 1e-5 };
  const attention = new PixelAttention('attn', options);
  const starts = new Map(['to_q', 'to_k', 'to_v', 'to_out.0'].map((name, i) => [`attn.${name}`, i + 1]));
  const graph = new Graph('attention');
  const values = attention.parameters.map(({ name, shape }) => {
    const [, layer = '', kind] = /^(.*)\.(weight|bias)$/.exec(name) ?? [];
    const first = (starts.get(layer) ?? Number.NaN) + (kind === 'bias' ? 0.3 : 0);
    return [name, graph.constant('float64', shape, waves(first, shape), name)] as const;
  });
  expect(attention.parameters.map(({ shape }) => shape.join('x'))).toEqual(
    expect.arrayContaining(['8x10', '8', '10x8', '10']),
  );
  const shape = [1, 10, 1, 3];
  const context = new ForwardContext(new Map(values), { layout });
  const maps = layout.fromImages(graph.input('x', 'float64', shape));
  graph.output('y', layout.toImages(attention.forward(maps, context)));
  const { y } = await runGraph(graph, { x: { dtype: 'float64', shape, data: waves(0.5, shape) } });
  // The reference is printed with nine decimals.
  expect(relativeError(y?.data ?? [], torch)).toBeLessThan(1e-9);
});
