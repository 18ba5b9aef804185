import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { add, loop } from '../../src/graph/ops/index.ts';
import { type DiffusionLoss, hybridLoss, isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense, type DiffusionModel, UNet2DModel } from '../../src/models/index.ts';
import { initialVector } from '../../src/models/model.ts';
import { configureRuntime } from '../../src/runtime/configure.ts';
import { type ConcreteDevice, deviceReports } from '../../src/runtime/device.ts';
import { float32Data, hostTensor, Session } from '../../src/runtime/session.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import type { Samples } from '../../src/trainers/data/samples.ts';
import { DeviceBackend } from '../../src/trainers/engines/device.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments, type TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { smallTrainer } from '../trainers/small-trainer.ts';
import { hasWebgpu } from './software-webgpu.ts';

/** A model, its batch size, and the longest vector of its state. */
const cases: Record<
  string,
  {
    model: DiffusionModel;
    batchSize: number;
    maxVectorElements: number;
    loss?: DiffusionLoss;
    gradientCheckpointing?: boolean;
    optimizer?: Partial<TrainingArguments>;
  }
> = {
  'the 2-D network': {
    model: new ConditionalDense({ hidden_features: 16 }),
    batchSize: 16,
    maxVectorElements: 1500,
  },
  'the 2-D network, by Lion': {
    model: new ConditionalDense({ hidden_features: 16 }),
    batchSize: 16,
    maxVectorElements: 1500,
    optimizer: { optim: 'lion', weight_decay: 0.1 },
  },
  "the 2-D network, by SGD with Nesterov's momentum": {
    model: new ConditionalDense({ hidden_features: 16 }),
    batchSize: 16,
    maxVectorElements: 1500,
    optimizer: { optim: 'sgd', momentum: 0.9, nesterov: true, weight_decay: 0.1 },
  },
  'a tiny U-Net with attention': {
    model: tinyUNet({ in_channels: 3, out_channels: 3, block_out_channels: [8, 16] }),
    batchSize: 2,
    maxVectorElements: 20_000,
  },
  'a learned variance, dropout and gradient checkpointing': {
    model: new UNet2DModel({
      sample_size: 8,
      out_channels: 6,
      block_out_channels: [8],
      down_block_types: ['DownBlock2D'],
      up_block_types: ['UpBlock2D'],
      layers_per_block: 1,
      norm_num_groups: 4,
      add_attention: false,
      dropout: 0.2,
    }),
    batchSize: 2,
    maxVectorElements: 5000,
    loss: hybridLoss({ base: isoLoss({ lambda: 0.1 }) }),
    gradientCheckpointing: true,
  },
};

/** Steps of the case's model with a state of several vectors, as a model too large for one GPU buffer has. */
async function run(name: string, device: ConcreteDevice, steps: number, accumulationSteps = 1) {
  const { model, batchSize, maxVectorElements, loss, gradientCheckpointing, optimizer } = cases[
    name
  ] as (typeof cases)[string];
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: batchSize,
    gradient_accumulation_steps: accumulationSteps,
    gradient_checkpointing: gradientCheckpointing ?? false,
    max_grad_norm: 1,
    use_ema: true,
    ...(optimizer ?? { optim: 'adamw' }),
  });
  const settings = stepSettings(
    { model, loss: loss ?? isoLoss({ lambda: 0.1 }), noise_scheduler: new DDPMScheduler() },
    args,
  );
  const schedule = stepSchedule(args, steps);
  const samples: Samples = {
    name: 'normal',
    count: 64,
    sampleShape: model.sampleShape,
    fingerprint: '',
    fill: (_index, target, stream) => void stream.fillNormal(target),
  };
  const batches = new BatchStream(samples, { batchSize: batchSize * accumulationSteps, trainTimesteps: 1000, seed: 0 });
  const parameters = initialVector(model, 0);
  const initial = new Map([
    ['parameters' as const, parameters],
    ['ema' as const, parameters],
  ]);
  expect(parameters.length).toBeGreaterThan(maxVectorElements);
  const backend = await DeviceBackend.create(settings, device, initial, { maxVectorElements });
  const engine = new Engine(backend, settings, batches, schedule);
  const reports = await engine.run(0, steps);
  const state = await engine.state();
  await engine.release();
  return { metrics: reports.flatMap((report) => Object.values(report)), state };
}

type Outcome = Awaited<ReturnType<typeof run>>;

function expectClose(gpu: Outcome, cpu: Outcome): void {
  gpu.metrics.forEach((value, i) => {
    expect(value).toBeCloseTo(cpu.metrics[i] as number, 3);
  });
  for (const [kind, vector] of cpu.state) {
    const other = gpu.state.get(kind) as Float32Array;
    // By norm, not by element: the bias of a key has a gradient of exactly 0, so that each device's rounding there
    // becomes, divided by its own size, a whole step of Adam.
    const difference = Math.hypot(...vector.map((value, i) => value - (other[i] as number)));
    expect(difference / Math.hypot(...vector), kind).toBeLessThan(1e-3);
  }
}

describe.skipIf(!hasWebgpu).each(Object.keys(cases))('a training step on webgpu: %s', (name) => {
  it('runs without falling back to the cpu and equals the cpu within 1e-3', async () => {
    expectClose(await run(name, 'webgpu', 3), await run(name, 'cpu', 3));
  }, 180_000);
});

// Of the small network only: a U-Net takes half a minute for three steps on a software driver.
it.skipIf(!hasWebgpu)(
  'a training step on webgpu gives the same bits twice',
  async () => {
    const name = 'the 2-D network';
    expect(await run(name, 'webgpu', 3)).toEqual(await run(name, 'webgpu', 3));
  },
  180_000,
);

describe.skipIf(!hasWebgpu)('several batches a step on webgpu', () => {
  it('stay on the GPU and equal the cpu within 1e-3', async () => {
    const name = 'the 2-D network';
    expectClose(await run(name, 'webgpu', 2, 3), await run(name, 'cpu', 2, 3));
    // Shaders are compiled for a processor here, which a busy machine takes its time for.
  }, 300_000);
});

it.skipIf(!hasWebgpu)(
  'trains in float16 where the adapter can, else it says what the adapter lacks',
  async () => {
    const output_dir = mkdtempSync(path.join(tmpdir(), 'iso-webgpu-'));
    onTestFinished(() => rmSync(output_dir, { recursive: true, force: true }));
    const args = { output_dir, max_steps: 2, device: 'webgpu', mixed_precision: 'fp16', report_to: [] } as const;
    const training = smallTrainer(args).train();
    const { float16 } = (await deviceReports()).find(({ device }) => device === 'webgpu') ?? {};
    if (float16) expect((await training).metrics?.loss).toBeGreaterThan(0);
    else await expect(training).rejects.toThrow(/float16, in which device 'webgpu' does not compute.*'shader-f16'/);
  },
  180_000,
);

it.skipIf(!hasWebgpu)(
  'a model with a node that webgpu cannot run is refused by its name, unless that is allowed',
  async () => {
    const graph = new Graph('looped');
    const x = graph.input('x', 'float32', [4]);
    const { state } = loop(graph.input('trips', 'int64', []), [x], (_body, _trip, [value = x]) => ({
      state: [add(value, value)],
    }));
    graph.output('y', state[0] ?? x);
    const model = writeOnnx(graph);
    await expect(Session.create(model, 'webgpu')).rejects.toThrow(
      /^'webgpu' cannot run all of the model: Loop \(Loop_\d+\).* would run on the cpu.*configureRuntime\({ cpu_fallback: true }\)/,
    );
    configureRuntime({ cpu_fallback: true });
    onTestFinished(() => configureRuntime({ cpu_fallback: false }));
    const session = await Session.create(model, 'webgpu');
    const { y } = await session.run({
      x: hostTensor('float32', [4], Float32Array.of(1, 2, 3, 4)),
      trips: hostTensor('int64', [], BigInt64Array.of(3n)),
    });
    expect([...float32Data(y, 'y')]).toEqual([8, 16, 24, 32]);
    await session.release();
  },
);
