import { expect, it } from 'vitest';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph, type GraphTarget } from '../../src/graph/graph.ts';
import { encodeModel, modelProto } from '../../src/graph/onnx/write.ts';
import { cast, mul, reduceSum } from '../../src/graph/ops/index.ts';
import { scalarLike } from '../../src/graph/registry.ts';
import { elementCount, fixedShape } from '../../src/graph/types.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { initialParameters } from '../../src/models/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { batchLoss, declareBatch } from '../../src/trainers/step/loss-graph.ts';
import { stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import { plainLevels, tinyUNet } from '../models/tiny-unet.ts';

const batch = 2;
const model = tinyUNet({
  ...plainLevels,
  block_out_channels: [8, 24],
  act_fn: 'silu',
  downsample_padding: 0,
  add_attention: true,
  // More and fewer pixels than the limit of sums by products.
  sample_size: 18,
});
const weights = initialParameters(model, 3);

/** The loss and the gradients of a U-Net by the forms for a device, run on the cpu. */
async function gradientsFor(
  target: GraphTarget,
  changes: { gradient_checkpointing?: boolean; mixed_precision?: 'fp16' } = {},
) {
  const args = resolveTrainingArguments({ output_dir: 'unused', per_device_train_batch_size: batch, ...changes });
  const settings = stepSettings({ model, loss: isoLoss({ lambda: 0.05 }), noise_scheduler: new DDPMScheduler() }, args);
  const graph = new Graph('gradients', undefined, target);
  const parameters = new Map(
    model.parameters.map(({ name, shape }) => [name, graph.input(name, 'float32', shape)] as const),
  );
  const inputs = declareBatch(graph, settings);
  const computed = new Map([...parameters].map(([name, value]) => [name, cast(value, settings.computeDtype)]));
  const { loss } = batchLoss(settings, inputs.batch, inputs.inputs, computed);
  // As high as float16 needs it, and a power of two, which changes no digit of float32.
  const scale = 1024;
  gradients(mul(loss, scalarLike(loss, scale)), [...parameters.values()]).forEach((value, i) => {
    graph.output(`d/${i}`, mul(value, scalarLike(value, 1 / scale)));
  });
  const session = await Session.create(encodeModel(modelProto(graph, {}, { roundsFloat16: true })), 'cpu');
  const stream = new RandomStream(8);
  const feeds = Object.fromEntries(
    graph.inputs.map(({ name, shape, dtype }) => {
      const size = fixedShape(shape);
      if (dtype === 'int32') return [name, hostTensor('int32', size, Int32Array.of(20, 700))];
      const data = weights.get(name) ?? stream.fillNormal(new Float32Array(elementCount(size)));
      return [name, hostTensor('float32', size, data)];
    }),
  );
  const outputs = await session.run(feeds);
  const found = model.parameters.map(({ name }, i) => [name, outputs[`d/${i}`]?.data as Float32Array] as const);
  await session.release();
  return { graph, found: new Map(found.map(([name, data]) => [name, Float32Array.from(data)])) };
}

it('the forms for cuda give the gradients of those for any device, of every parameter', async () => {
  const [any, cuda, again] = [
    await gradientsFor('any'),
    await gradientsFor('cuda'),
    await gradientsFor('cuda', { gradient_checkpointing: true }),
  ];
  const half = await gradientsFor('cuda', { mixed_precision: 'fp16' });
  const largest = Math.max(...[...any.found.values()].map((values) => Math.hypot(...values)));
  for (const [name, expected] of any.found) {
    const actual = cuda.found.get(name) ?? new Float32Array();
    const error = Math.hypot(...expected.map((value, i) => value - (actual[i] ?? Number.NaN)));
    // Some dozens of roundings of float32 in another order; the gradient of a key's bias is nothing but roundings.
    expect(error, name).toBeLessThan(2e-5 * Math.hypot(...expected) + 1e-7 * largest);
    // In float16 within a hundredth.
    const halfError = Math.hypot(...expected.map((value, i) => value - (half.found.get(name)?.[i] ?? Number.NaN)));
    expect(halfError, name).toBeLessThan(1e-2 * Math.hypot(...expected) + 1e-4 * largest);
  }
  const bytes = ({ found }: typeof cuda) => [...found.values()].map(({ buffer }) => Buffer.from(buffer));
  expect(Buffer.concat(bytes(again)).equals(Buffer.concat(bytes(cuda)))).toBe(true);
  const ops = (graph: Graph) => new Set(graph.nodes.map(({ opType }) => opType));
  expect([...ops(cuda.graph)]).toEqual(expect.arrayContaining(['LayerNormalization', 'BatchNormalization']));
  expect(ops(any.graph)).not.toContain('BatchNormalization');
});

it('sums over first and last axes at once are two sums for cuda, of the same shape', async () => {
  const shape = [2, 3, 4, 5];
  const data = Float32Array.from({ length: elementCount(shape) }, (_, i) => i % 7);
  const cases = [
    [0, 2, 3],
    [-1, 0],
    [1, 3],
    [0, 1],
    [2, 3],
    [0, 1, 2, 3],
  ].flatMap((axes) => [false, true].map((keepdims) => ({ axes, keepdims })));
  const sums = async (target: GraphTarget) => {
    const graph = new Graph('sums', undefined, target);
    const x = graph.input('x', 'float32', shape);
    cases.forEach(({ axes, keepdims }, i) => {
      graph.output(`y${i}`, reduceSum(x, axes, { keepdims }));
    });
    const session = await Session.create(encodeModel(modelProto(graph)), 'cpu');
    const outputs = await session.run({ x: hostTensor('float32', shape, data) });
    await session.release();
    return cases.map((_, i) => ({ dims: outputs[`y${i}`]?.dims, data: outputs[`y${i}`]?.data }));
  };
  // Sums of small integers are exact.
  expect(await sums('cuda')).toEqual(await sums('any'));
});
