import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { identity, mul, reduceSum, silu, transpose } from '../../src/graph/ops/index.ts';
import { elementCount, toTensorData } from '../../src/graph/types.ts';
import { hwnc } from '../../src/nn/hwnc.ts';
import { inverseAxes, type Layout, nchw, permuteAxes } from '../../src/nn/layout.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { plainConv } from '../graph/conv-reference.ts';

interface ConvCase {
  readonly name: string;
  readonly x: number[];
  readonly weight: number[];
  readonly strides?: readonly [number, number];
  readonly pads: readonly [number, number, number, number];
}
const border = [1, 1, 1, 1] as const;
const convCases: ConvCase[] = [
  { name: '3x3 by tiles', x: [2, 32, 16, 16], weight: [33, 32, 3, 3], pads: border },
  {
    name: '3x3 by tiles, of filters that are transformed again',
    x: [2, 96, 16, 16],
    weight: [96, 96, 3, 3],
    pads: border,
  },
  { name: '3x3 by tiles, wide', x: [6, 32, 8, 12], weight: [32, 32, 3, 3], pads: border },
  { name: '3x3 by gathered columns', x: [2, 3, 6, 5], weight: [4, 3, 3, 3], pads: border },
  { name: '3x3 by gathered columns, fewer outputs', x: [2, 5, 6, 5], weight: [3, 5, 3, 3], pads: border },
  { name: '3x3 by columns, few pixels', x: [2, 12, 3, 3], weight: [11, 12, 3, 3], pads: border },
  { name: '3x3 by tiles, 16 channels', x: [4, 17, 12, 12], weight: [16, 17, 3, 3], pads: border },
  { name: 'to few channels', x: [2, 48, 6, 5], weight: [3, 48, 3, 3], pads: border },
  { name: '1x1', x: [2, 3, 5, 4], weight: [4, 3, 1, 1], pads: [0, 0, 0, 0] },
  { name: 'stride 2', x: [2, 3, 8, 8], weight: [4, 3, 3, 3], strides: [2, 2], pads: border },
  {
    name: 'stride 2, padded as diffusers',
    x: [2, 3, 8, 6],
    weight: [2, 3, 3, 3],
    strides: [2, 2],
    pads: [0, 0, 1, 1],
  },
  { name: 'stride 2, odd length', x: [1, 2, 9, 7], weight: [3, 2, 3, 3], strides: [2, 2], pads: border },
];

function random(shape: readonly number[], seed: number): Float64Array {
  return Float64Array.from(new RandomStream(seed).fillNormal(new Float32Array(elementCount(shape))));
}

/** Output and gradients of sum(dy y); onnxruntime's Conv, Resize and QuickGelu know float32 only. */
async function run(
  shapes: readonly (readonly number[])[],
  build: (inputs: readonly Value[]) => Value,
  dtype: 'float32' | 'float64' = 'float64',
): Promise<{ y: Float64Array; gradients: Float64Array[]; dy: Float64Array; shape: number[] }> {
  const graph = new Graph('case');
  const inputs = shapes.map((shape, i) => graph.input(`x${i}`, dtype, shape));
  const y = build(inputs);
  const shape = y.shape.map(Number);
  const dy = graph.input('dy', dtype, shape);
  graph.output('y', identity(y));
  gradients(reduceSum(mul(y, dy)), inputs).forEach((gradient, i) => {
    expect(gradient.shape).toEqual(shapes[i]);
    graph.output(`d${i}`, identity(gradient));
  });
  const seeded = random(shape, 99);
  const session = await Session.create(writeOnnx(graph), 'cpu');
  const outputs = await session.run({
    ...Object.fromEntries(
      shapes.map((s, i) => [`x${i}`, hostTensor(dtype, s, toTensorData(dtype, Array.from(random(s, i + 1))))]),
    ),
    dy: hostTensor(dtype, shape, toTensorData(dtype, Array.from(seeded))),
  });
  const data = (name: string) => Float64Array.from(outputs[name]?.data as Float32Array | Float64Array);
  const result = { y: data('y'), gradients: shapes.map((_, i) => data(`d${i}`)), dy: seeded, shape };
  await session.release();
  return result;
}

/** A convolution of images and filters of torch's order, computed in the order of `maps`. */
const convIn =
  (layout: Layout, { strides = [1, 1], pads }: ConvCase) =>
  ([x, filters, bias]: readonly Value[]) => {
    if (!x || !filters || !bias) throw new Error('three inputs');
    return layout.toImages(
      layout.conv2d(layout.fromImages(x), transpose(filters, layout.filterAxes), bias, { strides, pads }),
    );
  };

function expectClose(actual: Float64Array, expected: ArrayLike<number>, tolerance: number): void {
  const values = Array.from(expected);
  const error = Math.hypot(...values.map((value, i) => value - (actual[i] ?? Number.NaN)));
  expect(actual).toHaveLength(values.length);
  expect(error).toBeLessThan(tolerance * Math.hypot(...values));
}

describe('convolutions in hwnc', () => {
  // Winograd's sums cancel: some 10 to 100 roundings of float64.
  it.each(convCases)('$name: as its definition, and the adjoint of it', async (given) => {
    const geometry = { strides: [1, 1] as const, dilations: [1, 1] as const, group: 1, ...given };
    const filters = given.weight[0] ?? 1;
    const shapes = [given.x, given.weight, [filters]];
    const ours = await run(shapes, convIn(hwnc, given));
    const [x, weight, bias] = shapes.map((shape, i) => random(shape, i + 1)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    const plain = plainConv(x, given.x, weight, given.weight, geometry);
    expect(ours.shape).toEqual(plain.shape);
    const pixels = (plain.shape[2] ?? 1) * (plain.shape[3] ?? 1);
    const expected = plain.data.map((value, i) => value + (bias[Math.floor(i / pixels) % filters] as number));
    expectClose(ours.y, expected, 1e-12);
    // y is linear in x and in the filters, so <dy, conv(v, w)> = <dL/dx, v> for every v, and likewise for w.
    const dot = (a: Float64Array, b: ArrayLike<number>) => a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
    const [dx, dw, db] = ours.gradients as [Float64Array, Float64Array, Float64Array];
    for (const seed of [11, 12, 13]) {
      const v = random(given.x, seed);
      const w = random(given.weight, seed);
      const scale = Math.hypot(...ours.dy) * Math.hypot(...plain.data) * 1e-12;
      expect(
        Math.abs(dot(ours.dy, plainConv(v, given.x, weight, given.weight, geometry).data) - dot(dx, v)),
      ).toBeLessThan(scale);
      expect(Math.abs(dot(ours.dy, plainConv(x, given.x, w, given.weight, geometry).data) - dot(dw, w))).toBeLessThan(
        scale,
      );
    }
    const sums = new Float64Array(filters);
    ours.dy.forEach((value, i) => {
      const filter = Math.floor(i / pixels) % filters;
      sums[filter] = (sums[filter] as number) + value;
    });
    expectClose(db, sums, 1e-12);
  });

  it('keeps float32 accurate by tiles', async () => {
    const given = convCases[0] as ConvCase;
    const graph = new Graph('case');
    const shapes = [given.x, given.weight, [given.weight[0] ?? 1]];
    const inputs = shapes.map((shape, i) => graph.input(`x${i}`, 'float32', shape));
    graph.output('y', convIn(hwnc, given)(inputs));
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const { y } = await session.run(
      Object.fromEntries(
        shapes.map((s, i) => [`x${i}`, hostTensor('float32', s, Float32Array.from(random(s, i + 1)))]),
      ),
    );
    await session.release();
    const wide = await run(shapes, convIn(hwnc, given));
    // The plain sum of 288 products has 3e-7; Lavin & Gray report about ten times that for F(4x4, 3x3).
    expectClose(Float64Array.from(y?.data as Float32Array), wide.y, 5e-6);
  });

  it('and its gradients on a long axis, which is transformed tile by tile', async () => {
    const given: ConvCase = { name: '', x: [2, 32, 36, 8], weight: [33, 32, 3, 3], pads: border };
    const shapes = [given.x, given.weight, [33]];
    const [tiled, plain] = [
      await run(shapes, convIn(hwnc, given), 'float32'),
      await run(shapes, convIn(hwnc, given), 'float64'),
    ];
    expectClose(tiled.y, plain.y, 5e-6);
    tiled.gradients.forEach((gradient, i) => {
      expectClose(gradient, plain.gradients[i] ?? [], 5e-6);
    });
  });
});

describe('other layers in hwnc give what they give in nchw', () => {
  // Winograd's tiles are in the test above; here the sizes stay below them.
  const image = [2, 8, 4, 6];
  const large = [4, 16, 36, 36];
  const normalised = (channels: number, shape: number[]) => ({
    shapes: [shape, [channels], [channels], [5, channels, 3, 3], [5]],
    build: (layout: Layout, [x, weight, bias, filters, shift]: readonly Value[]) => {
      if (!x || !weight || !bias || !filters || !shift) throw new Error('five inputs');
      const hidden = silu(layout.groupNorm(layout.fromImages(x), 4, weight, bias, 1e-5));
      return layout.toImages(layout.conv2d(hidden, transpose(filters, layout.filterAxes), shift, { pads: border }));
    },
  });
  const layers: {
    name: string;
    shapes: number[][];
    build: (layout: Layout, inputs: readonly Value[]) => Value;
  }[] = [
    { name: 'group normalisation, SiLU and a convolution', ...normalised(8, image) },
    {
      name: 'group normalisation, SiLU and a convolution, recomputed in the backward pass',
      ...normalised(16, large),
    },
    {
      name: 'attention in two heads',
      shapes: [image, ...Array.from({ length: 4 }, () => [[8, 8], [8]]).flat()],
      build: (layout, [x, ...rest]) => {
        const projection = (i: number) => ({ weight: rest[2 * i] as Value, bias: rest[2 * i + 1] as Value });
        const projections = {
          query: projection(0),
          key: projection(1),
          value: projection(2),
          output: projection(3),
        };
        return layout.toImages(layout.attention(layout.fromImages(x as Value), projections, 4));
      },
    },
    {
      name: 'upsampling and concatenation',
      shapes: [image, [2, 3, 4, 6]],
      build: (layout, inputs) =>
        layout.toImages(layout.upsampleNearest2x(layout.concatChannels(inputs.map(layout.fromImages)))),
    },
  ];
  it.each(layers)('$name', async ({ shapes, build }) => {
    const first = await run(shapes, (inputs) => build(nchw, inputs), 'float32');
    const pixels = await run(shapes, (inputs) => build(hwnc, inputs), 'float32');
    // Both round float32 sums of some dozens of values, in another order.
    expectClose(pixels.y, first.y, 2e-6);
    // The bias of a key has the true gradient 0, so errors are measured against all gradients.
    const scale = Math.hypot(...first.gradients.map((gradient) => Math.hypot(...gradient)));
    pixels.gradients.forEach((gradient, i) => {
      const difference = gradient.map((value, j) => value - (first.gradients[i]?.[j] ?? Number.NaN));
      expect(Math.hypot(...difference)).toBeLessThan(2e-6 * scale);
    });
  });
});

it('permutes axes on the host, and back', () => {
  const data = Float32Array.from({ length: 24 }, (_, i) => i);
  const permuted = permuteAxes(data, [2, 3, 4], [2, 0, 1]);
  expect(Array.from(permuted.slice(0, 6))).toEqual([0, 4, 8, 12, 16, 20]);
  expect(permuteAxes(permuted, [4, 2, 3], inverseAxes([2, 0, 1]))).toEqual(data);
});
