import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { DeviceError } from '../../src/errors.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { convInputGradient, convWeightGradient } from '../../src/graph/ops/conv/gradients.ts';
import { type Conv2dOptions, type ConvGeometry, conv2d, convTranspose2d, loop } from '../../src/graph/ops/index.ts';
import { apply, int, ints } from '../../src/graph/registry.ts';
import { elementCount } from '../../src/graph/types.ts';
import { exportModel } from '../../src/models/index.ts';
import { initialParameters } from '../../src/models/model.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { refuseMiscomputedConvolutions } from '../../src/runtime/ort/webgpu-convolutions.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { plainConv } from '../graph/conv-reference.ts';
import { plainLevels, tinyUNet } from '../models/tiny-unet.ts';
import { hasWebgpu } from './software-webgpu.ts';

const plain: ConvGeometry = { strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1], group: 1 };
const normal = (shape: readonly number[], seed: number) =>
  new RandomStream(seed).fillNormal(new Float32Array(elementCount(shape)));

/** In and out channels around what webgpu reads three, four and one at a time. */
const channelPairs = [
  [3, 8],
  [5, 8],
  [6, 8],
  [9, 4],
  [12, 8],
  [15, 6],
  [18, 24],
] as const;

async function run(graph: Graph, feeds: ReadonlyMap<string, readonly [Float32Array, readonly number[]]>) {
  const session = await Session.create(writeOnnx(graph), 'webgpu', { forbidFallback: true });
  const tensors = [...feeds].map(([name, [data, shape]]) => [name, hostTensor('float32', shape, data)] as const);
  const outputs = await session.run(Object.fromEntries(tensors));
  const copies = new Map(
    Object.entries(outputs).map(([name, { data }]) => [name, Float32Array.from(data as Float32Array)]),
  );
  await session.release();
  return copies;
}

function relativeError(actual: Float32Array | undefined, expected: Float64Array): number {
  return Math.hypot(...expected.map((value, i) => value - (actual?.[i] ?? Number.NaN))) / Math.hypot(...expected);
}

describe.skipIf(!hasWebgpu)('convolutions on webgpu', () => {
  it.each<Conv2dOptions>([{}, { strides: [2, 2] }])(
    'equal their definition: %o',
    async (options) => {
      const geometry = { ...plain, ...options };
      const graph = new Graph('convolutions');
      const feeds = new Map<string, readonly [Float32Array, readonly number[]]>();
      const expected = new Map<string, Float64Array>();
      const given = (name: string, shape: readonly number[], seed: number): [Value, Float32Array] => {
        const data = normal(shape, seed);
        feeds.set(name, [data, shape]);
        return [graph.input(name, 'float32', shape), data];
      };
      for (const [channels, filters] of channelPairs) {
        const name = `${channels} to ${filters}`;
        const shapes = [
          [2, channels, 6, 6],
          [filters, channels, 3, 3],
        ] as const;
        const [x, images] = given(`x ${name}`, shapes[0], 1);
        const [weight, taps] = given(`weight ${name}`, shapes[1], 2);
        graph.output(name, conv2d(x, weight, undefined, geometry));
        expected.set(name, plainConv(images, shapes[0], taps, shapes[1], geometry).data);
      }
      const outputs = await run(graph, feeds);
      for (const [name, values] of expected) expect(relativeError(outputs.get(name), values), name).toBeLessThan(1e-5);
    },
    120_000,
  );

  it('have gradients that equal the adjoint, however they are computed', async () => {
    const graph = new Graph('gradients');
    const feeds = new Map<string, readonly [Float32Array, readonly number[]]>();
    const checks: { name: string; along: Float32Array; expected: number }[] = [];
    for (const [filters, channels] of channelPairs) {
      const batch = 6;
      const [xShape, weightShape, dyShape] = [
        [batch, channels, 5, 5],
        [filters, channels, 3, 3],
        [batch, filters, 5, 5],
      ];
      const named = (kind: string) => `${kind} ${filters} to ${channels}`;
      const given = (kind: string, shape: readonly number[], seed: number): [Value, Float32Array] => {
        const data = normal(shape, seed);
        feeds.set(named(kind), [data, shape]);
        return [graph.input(named(kind), 'float32', shape), data];
      };
      const [x, images] = given('x', xShape, 1);
      const [weight, taps] = given('weight', weightShape, 2);
      const [dy, responses] = given('dy', dyShape, 3);
      // <dL/dx, u> is <dy, conv(u, weight)>, and <dL/dweight, v> is <dy, conv(x, v)>.
      const u = normal(xShape, 4);
      const v = normal(weightShape, 5);
      const product = (a: Float64Array) => a.reduce((sum, value, i) => sum + value * (responses[i] ?? 0), 0);
      const alongX = product(plainConv(u, xShape, taps, weightShape, plain).data);
      const alongWeight = product(plainConv(images, xShape, v, weightShape, plain).data);
      const scale = Math.hypot(...responses) * Math.hypot(...taps);
      for (const formulation of ['conv-transpose', 'flipped-conv'] as const) {
        const name = named(formulation);
        graph.output(name, convInputGradient(dy, weight, xShape, plain, formulation));
        checks.push({ name, along: u.map((value) => value / scale), expected: alongX / scale });
      }
      for (const formulation of ['columns', 'response-columns', 'transposed-conv'] as const) {
        const name = named(formulation);
        graph.output(name, convWeightGradient(dy, x, weightShape, plain, formulation));
        checks.push({ name, along: v.map((value) => value / scale), expected: alongWeight / scale });
      }
    }
    const outputs = await run(graph, feeds);
    for (const { name, along, expected } of checks) {
      const found = along.reduce((sum, value, i) => sum + value * (outputs.get(name)?.[i] ?? Number.NaN), 0);
      expect(Math.abs(found - expected), name).toBeLessThan(1e-5 * Math.hypot(1, expected));
    }
  }, 240_000);

  it('transposed equal the adjoint for the same channels', async () => {
    const graph = new Graph('transposed');
    const feeds = new Map<string, readonly [Float32Array, readonly number[]]>();
    const checks: { name: string; u: Float32Array; expected: number }[] = [];
    for (const [channels, filters] of channelPairs) {
      const name = `${channels} to ${filters}`;
      const shape = [2, channels, 5, 5];
      const weightShape = [channels, filters, 3, 3];
      const data = normal(shape, 1);
      const taps = normal(weightShape, 2);
      feeds.set(`x ${name}`, [data, shape]);
      feeds.set(`weight ${name}`, [taps, weightShape]);
      const x = graph.input(`x ${name}`, 'float32', shape);
      const weight = graph.input(`weight ${name}`, 'float32', weightShape);
      graph.output(name, convTranspose2d(x, weight, undefined, plain));
      const u = normal([2, filters, 5, 5], 3);
      const forward = plainConv(u, [2, filters, 5, 5], taps, weightShape, plain).data;
      const expected = forward.reduce((sum, value, i) => sum + value * (data[i] ?? 0), 0);
      checks.push({ name, u, expected });
    }
    const outputs = await run(graph, feeds);
    for (const { name, u, expected } of checks) {
      const found = u.reduce((sum, value, i) => sum + value * (outputs.get(name)?.[i] ?? Number.NaN), 0);
      expect(Math.abs(found - expected), name).toBeLessThan(1e-5 * Math.hypot(...u) * 100);
    }
  }, 120_000);
});

/** A Conv as another exporter writes it: the filters stand in the file. */
function exported(weightShape: number[], geometry: Conv2dOptions = plain, inLoop = false): Uint8Array {
  const graph = new Graph('exported');
  const { strides, pads, group } = { ...plain, ...geometry };
  const x = graph.input('x', 'float32', [1, (weightShape[1] ?? 1) * group, 6, 6]);
  const weight = graph.constant('float32', weightShape, normal(weightShape, 1), 'weight');
  const convolved = () =>
    apply('Conv', [x, weight], {
      strides: ints(strides),
      pads: ints(pads),
      group: int(group),
    });
  if (!inLoop) graph.output('y', convolved());
  else {
    const trips = graph.constant('int64', [], BigInt64Array.of(2n));
    const { perTrip } = loop(trips, [], () => ({ state: [], perTrip: [convolved()] }));
    const [y] = perTrip;
    if (y) graph.output('y', y);
  }
  return writeOnnx(graph);
}

describe('files that webgpu would compute wrongly', () => {
  it.each([
    ['18 to 24 channels', exported([24, 18, 3, 3])],
    ['a stride', exported([8, 6, 1, 1], { strides: [2, 2], pads: [0, 0, 0, 0] })],
    ['a body', exported([8, 6, 3, 3], plain, true)],
  ])('are refused: %s', async (_name, bytes) => {
    await expect(refuseMiscomputedConvolutions(bytes)).rejects.toThrow(DeviceError);
    await expect(refuseMiscomputedConvolutions(bytes)).rejects.toThrow(/1 of its convolutions.*'Conv_1'.*'cpu'/);
    await expect(Session.create(bytes, 'webgpu')).rejects.toThrow(/computes 1 of its convolutions wrongly/);
  });

  it('are refused by their path', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'iso-webgpu-'));
    const file = path.join(folder, 'model.onnx');
    writeFileSync(file, exported([24, 18, 3, 3]));
    await expect(refuseMiscomputedConvolutions(file)).rejects.toThrow(/18 to 24 channels/);
    rmSync(folder, { recursive: true });
  });

  it.each([
    ['3 channels', exported([8, 3, 3, 3])],
    ['12 channels', exported([8, 12, 3, 3])],
    ['outputs that are no multiple of 4', exported([9, 18, 3, 3])],
    ['a product of pixels', exported([8, 6, 1, 1], { pads: [0, 0, 0, 0] })],
    ['groups', exported([8, 6, 3, 3], { group: 2 })],
  ])('are not those with %s', async (_name, bytes) => {
    await expect(refuseMiscomputedConvolutions(bytes)).resolves.toBeUndefined();
  });

  it('are not those of this package', async () => {
    const model = tinyUNet({
      ...plainLevels,
      in_channels: 3,
      out_channels: 3,
      block_out_channels: [18, 24],
      norm_num_groups: 6,
      add_attention: false,
    });
    const bytes = exportModel(model, initialParameters(model, 0));
    await expect(refuseMiscomputedConvolutions(bytes)).resolves.toBeUndefined();
  });
});
