import { describe, expect, it } from 'vitest';
import { GraphError, InvalidArgumentError } from '../../src/errors.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { identity, mul, reduceSum } from '../../src/graph/ops/index.ts';
import { elementCount } from '../../src/graph/types.ts';
import {
  Attention,
  activation,
  Dropout,
  Embedding,
  ForwardContext,
  geluTanh,
  type Layer,
  LayerNorm,
  Linear,
  normal,
  sinusoidalEmbedding,
  TimeEmbedding,
  zeros,
} from '../../src/nn/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { relativeError, runGraph } from '../models/run-graph.ts';

type Values = ReadonlyMap<string, Float64Array>;
const random = (length: number, seed: number) => new RandomStream(seed).fillNormal(new Float64Array(length));

/** Rows of `width` numbers. */
function rows(data: Float64Array, width: number): Float64Array[] {
  return Array.from({ length: data.length / width }, (_, row) => data.subarray(row * width, (row + 1) * width));
}
const flat = (parts: readonly ArrayLike<number>[]) => Float64Array.from(parts.flatMap((part) => [...Array.from(part)]));
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((sum, value, i) => sum + value * Number(b[i]), 0);
const silu = (x: number) => x / (1 + Math.exp(-x));

/** x W^T + b, row by row. */
function plainLinear(x: Float64Array, weights: Values, name: string): Float64Array {
  const bias = weights.get(`${name}.bias`);
  const weight = weights.get(`${name}.weight`) ?? new Float64Array();
  const outputs = bias?.length ?? 0;
  const inputs = weight.length / outputs;
  return flat(
    rows(x, inputs).map((row) => rows(weight, inputs).map((column, i) => dot(row, column) + Number(bias?.[i]))),
  );
}

function plainNorm(x: Float64Array, features: number, weights?: Values): Float64Array {
  return flat(
    rows(x, features).map((row) => {
      const mean = row.reduce((sum, value) => sum + value, 0) / features;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / features;
      return row.map((value, i) => {
        const normalised = (value - mean) / Math.sqrt(variance + 1e-5);
        return weights
          ? normalised * Number(weights.get('norm.weight')?.[i]) + Number(weights.get('norm.bias')?.[i])
          : normalised;
      });
    }),
  );
}

/** [batch, tokens, channels], one head and one token at a time. */
function plainAttention(x: Float64Array, weights: Values, tokens: number, channels: number, heads: number) {
  const dim = channels / heads;
  const [q, k, v] = ['to_q', 'to_k', 'to_v'].map((name) => rows(plainLinear(x, weights, `attn.${name}`), channels));
  const mixed = (q ?? []).map((query, row) => {
    const first = row - (row % tokens);
    return flat(
      Array.from({ length: heads }, (_, head) => {
        const part = (values: Float64Array | undefined) => (values ?? query).subarray(head * dim, (head + 1) * dim);
        const scores = Array.from({ length: tokens }, (_, token) =>
          Math.exp(dot(part(query), part(k?.[first + token])) / Math.sqrt(dim)),
        );
        const total = scores.reduce((sum, score) => sum + score, 0);
        return Array.from({ length: dim }, (_, c) =>
          scores.reduce((sum, score, token) => sum + (score / total) * Number(part(v?.[first + token])[c]), 0),
        );
      }),
    );
  });
  return plainLinear(flat(mixed), weights, 'attn.to_out.0');
}

/** diffusers' get_timestep_embedding with its defaults in UNet2DModel: cosines first. */
function plainWaves(timesteps: readonly number[], channels: number): Float64Array {
  const half = channels / 2;
  const angles = (t: number) => Array.from({ length: half }, (_, i) => t * Math.exp((-Math.log(10_000) * i) / half));
  return flat(timesteps.map((t) => [...angles(t).map(Math.cos), ...angles(t).map(Math.sin)]));
}

interface Case {
  readonly name: string;
  readonly layer: Layer;
  readonly x: readonly number[];
  readonly forward: (x: Value, context: ForwardContext) => Value;
  readonly plain: (x: Float64Array, weights: Values) => Float64Array;
}

const linear = new Linear('linear', 3, 5);
const norm = new LayerNorm('norm', 6);
const bareNorm = new LayerNorm('norm', 6, { elementwise_affine: false });
const attention = new Attention('attn', 6, 3);
const cases: Case[] = [
  ...[
    [4, 3],
    [2, 4, 3],
    [2, 2, 2, 3],
  ].map((x) => ({
    name: `Linear on ${x.length} axes`,
    layer: linear,
    x,
    forward: (value: Value, context: ForwardContext) => linear.forward(value, context),
    plain: (value: Float64Array, weights: Values) => plainLinear(value, weights, 'linear'),
  })),
  {
    name: 'LayerNorm',
    layer: norm,
    x: [2, 3, 6],
    forward: (x, context) => norm.forward(x, context),
    plain: (x, weights) => plainNorm(x, 6, weights),
  },
  {
    name: 'LayerNorm without weight and bias',
    layer: bareNorm,
    x: [2, 3, 6],
    forward: (x, context) => bareNorm.forward(x, context),
    plain: (x) => plainNorm(x, 6),
  },
  {
    name: 'Attention of 3 heads',
    layer: attention,
    x: [2, 4, 6],
    forward: (x, context) => attention.forward(x, context),
    plain: (x, weights) => plainAttention(x, weights, 4, 6, 3),
  },
];

describe.each(cases)('$name', ({ layer, x: shape, forward, plain }) => {
  const x = random(elementCount(shape), 1);
  const weights: Values = new Map(
    layer.parameters.map(({ name, shape }, i) => [name, random(elementCount(shape), 20 + i)]),
  );

  it('computes what plain loops do, and the gradients of central differences', async () => {
    const graph = new Graph('layer');
    const input = graph.input('x', 'float64', shape);
    const parameters = new Map(layer.parameters.map(({ name, shape }) => [name, graph.input(name, 'float64', shape)]));
    const y = forward(input, new ForwardContext(parameters));
    const expected = plain(x, weights);
    const dy = random(expected.length, 2);
    const seed = graph.constant('float64', y.shape.map(Number), dy);
    graph.output('y', identity(y));
    const variables = [input, ...parameters.values()];
    gradients(reduceSum(mul(y, seed)), variables).forEach((gradient, i) => {
      graph.output(`d${i}`, identity(gradient));
    });
    const outputs = await runGraph(graph, {
      x: { dtype: 'float64', shape, data: x },
      ...Object.fromEntries(
        layer.parameters.map(({ name, shape }) => [
          name,
          { dtype: 'float64', shape, data: weights.get(name) ?? new Float64Array() },
        ]),
      ),
    });
    expect(relativeError(outputs.y?.data ?? [], expected)).toBeLessThan(1e-10);

    const values = [['x', x] as const, ...weights];
    const lossAt = (changed: string, moved: Float64Array) =>
      dot(plain(changed === 'x' ? moved : x, new Map(weights).set(changed, moved)), dy);
    values.forEach(([name, value], i) => {
      const h = 1e-6;
      const numeric = value.map(
        (entry, j) => (lossAt(name, value.with(j, entry + h)) - lossAt(name, value.with(j, entry - h))) / (2 * h),
      );
      const scale = Math.max(1, ...numeric.map(Math.abs));
      // Not relative alone: softmax makes the gradient of an attention's key bias 0.
      const errors = numeric.map((slope, j) => Math.abs(slope - (outputs[`d${i}`]?.data[j] ?? Number.NaN)));
      expect(Math.max(...errors) / scale, name).toBeLessThan(1e-6);
    });
  });
});

/** A layer's output in float32, where the number of samples is open in the graph, as in an exported model. */
async function runOpen(layer: Layer, shape: readonly number[], forward: Case['forward'], x: Float32Array) {
  const graph = new Graph('open');
  const parameters = new Map(
    layer.parameters.map(({ name, shape }, i) => [
      name,
      graph.constant('float32', shape, Float32Array.from(random(elementCount(shape), 20 + i)), name),
    ]),
  );
  const input = graph.input('x', 'float32', ['batch_size', ...shape.slice(1)]);
  graph.output('y', identity(forward(input, new ForwardContext(parameters))));
  const outputs = await runGraph(graph, { x: { dtype: 'float32', shape, data: x } });
  return outputs.y?.data ?? [];
}

it.each(cases)('$name takes any number of samples', async ({ layer, x: shape, forward, plain }) => {
  const x = random(elementCount(shape), 1);
  const weights: Values = new Map(
    layer.parameters.map(({ name, shape }, i) => [name, random(elementCount(shape), 20 + i)]),
  );
  const y = await runOpen(layer, shape, forward, Float32Array.from(x));
  expect(relativeError(y, plain(x, weights))).toBeLessThan(2e-6);
});

describe('Embedding', () => {
  it('gives a row for each index, of any shape, and its gradient is the sum over them', async () => {
    const layer = new Embedding('table', 4, 3);
    const table = random(12, 3);
    const graph = new Graph('embedding');
    const weight = graph.input('table.weight', 'float64', [4, 3]);
    const indices = graph.input('indices', 'int64', [2, 3]);
    const y = layer.forward(indices, new ForwardContext(new Map([['table.weight', weight]])));
    expect(y.shape).toEqual([2, 3, 3]);
    graph.output('y', identity(y));
    const [gradient = y] = gradients(reduceSum(y), [weight]);
    graph.output('d', identity(gradient));
    const chosen = [3, 1, 1, 0, 3, 3];
    const outputs = await runGraph(graph, {
      'table.weight': { dtype: 'float64', shape: [4, 3], data: table },
      indices: { dtype: 'int64', shape: [2, 3], data: BigInt64Array.from(chosen, BigInt) },
    });
    expect(outputs.y?.data).toEqual([...flat(chosen.map((row) => table.subarray(3 * row, 3 * row + 3)))]);
    expect(outputs.d?.data).toEqual([1, 1, 1, 2, 2, 2, 0, 0, 0, 3, 3, 3]);
  });
});

describe('TimeEmbedding', () => {
  it('is the sinusoidal embedding of diffusers through two dense layers with SiLU between', async () => {
    const layer = new TimeEmbedding('time', { in_channels: 8, time_embed_dim: 5 });
    const weights: Values = new Map(
      layer.parameters.map(({ name, shape }, i) => [name, random(elementCount(shape), 30 + i)]),
    );
    expect([...weights.keys()]).toEqual([
      'time.linear_1.weight',
      'time.linear_1.bias',
      'time.linear_2.weight',
      'time.linear_2.bias',
    ]);
    const graph = new Graph('time');
    const timestep = graph.input('timestep', 'int32', [3]);
    const parameters = new Map(
      layer.parameters.map(({ name, shape }) => [
        name,
        graph.constant('float32', shape, Float32Array.from(weights.get(name) ?? []), name),
      ]),
    );
    graph.output('y', identity(layer.forward(timestep, new ForwardContext(parameters))));
    const timesteps = [0, 7, 999];
    const outputs = await runGraph(graph, {
      timestep: { dtype: 'int32', shape: [3], data: Int32Array.from(timesteps) },
    });
    const hidden = plainLinear(plainWaves(timesteps, 8), weights, 'time.linear_1').map(silu);
    expect(relativeError(outputs.y?.data ?? [], plainLinear(hidden, weights, 'time.linear_2'))).toBeLessThan(1e-4);
  });

  it('takes timesteps with fractions', async () => {
    const graph = new Graph('waves');
    const timestep = graph.input('timestep', 'float32', [2]);
    graph.output('y', identity(sinusoidalEmbedding(timestep, 8, 'float32')));
    const outputs = await runGraph(graph, {
      timestep: { dtype: 'float32', shape: [2], data: Float32Array.of(0.5, 12.25) },
    });
    expect(relativeError(outputs.y?.data ?? [], plainWaves([0.5, 12.25], 8))).toBeLessThan(1e-6);
  });
});

it.each([
  // torch.nn.functional.gelu of -3, -1, -0.5, 0, 0.5, 1, 3: x times the normal distribution function, by tables.
  ['gelu', activation('gelu'), [-0.00404969, -0.15865525, -0.15426877, 0, 0.34573123, 0.84134475, 2.99595031]],
  ['geluTanh', geluTanh, [-0.00363739, -0.15880801, -0.15428599, 0, 0.34571401, 0.84119199, 2.99636261]],
] as const)('%s', async (_, build, expected) => {
  const graph = new Graph('gelu');
  graph.output('y', identity(build(graph.input('x', 'float32', [7]))));
  const data = Float32Array.of(-3, -1, -0.5, 0, 0.5, 1, 3);
  const { y } = await runGraph(graph, { x: { dtype: 'float32', shape: [7], data } });
  expected.forEach((value, i) => {
    expect(y?.data[i]).toBeCloseTo(value, 6);
  });
});

describe('layers', () => {
  it('begin as they are told', () => {
    const layer = new Linear('head', 3, 2, { weight_init: normal(0.02), bias_init: zeros });
    const [weight = [], bias = []] = layer.parameters.map(({ shape, init }) => {
      const values = new Float32Array(elementCount(shape)).fill(Number.NaN);
      init(new RandomStream(4), values);
      return values;
    });
    const expected = new RandomStream(4).fillNormal(new Float32Array(6)).map((value) => 0.02 * value);
    expect(weight).toEqual(expected);
    expect(bias).toEqual(new Float32Array(2));
    expect(new Linear('head', 3, 2, { bias: false }).parameters.map(({ name }) => name)).toEqual(['head.weight']);
    expect(new Dropout(0.1).parameters).toEqual([]);
  });

  it('refuse inputs and options that do not fit, by name', () => {
    const x = new Graph('wrong').input('x', 'float32', [2, 4]);
    const context = new ForwardContext(new Map());
    expect(() => linear.forward(x, context)).toThrow(GraphError);
    expect(() => linear.forward(x, context)).toThrow('linear: the input must be [..., 3], but is [2, 4]');
    expect(() => norm.forward(x, context)).toThrow('norm: the input must be [..., 6], but is [2, 4]');
    expect(() => new Attention('attn', 6, 4)).toThrow(InvalidArgumentError);
  });
});
