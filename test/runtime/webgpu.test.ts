import { describe, expect, it } from 'vitest';
import { type FlatBucket, packBucket, planFlatBuckets } from '../../src/graph/flat-vectors.ts';
import { adamScalars } from '../../src/graph/optimizer.ts';
import { elementCount } from '../../src/graph/types.ts';
import { type DiffusionLoss, hybridLoss, isoLoss } from '../../src/losses/index.ts';
import {
  ConditionalDense,
  type DiffusionModel,
  initialParameters,
  UNet2DModel,
} from '../../src/models/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import type { ConcreteDevice } from '../../src/runtime/device.ts';
import { TrainingSession } from '../../src/runtime/ort/training-session.ts';
import { float32Data, hostTensor } from '../../src/runtime/session.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { BatchSource } from '../../src/trainers/data/batch-source.ts';
import { pointSource } from '../../src/trainers/data/sample-source.ts';
import { AccumulatingTrainingEngine } from '../../src/trainers/engines/accumulating-training-engine.ts';
import { createSplitEngine } from '../../src/trainers/engines/split-training-engine.ts';
import { buildTrainingGraph } from '../../src/trainers/step/training-graph.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { circle } from '../trainers/small-trainer.ts';
import { hasWebgpu } from './software-webgpu.ts';

const adam = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };

/** A model, its batch size, and a bucket size that gives several buckets, as a model too large for one GPU buffer has. */
const cases: Record<
  string,
  {
    model: DiffusionModel;
    batchSize: number;
    maxBucketElements: number;
    loss?: DiffusionLoss;
    gradientCheckpointing?: boolean;
  }
> = {
  'the 2-D network': {
    model: new ConditionalDense({ hidden_features: 16 }),
    batchSize: 16,
    maxBucketElements: 1500,
  },
  'a tiny U-Net with attention': {
    model: tinyUNet({ in_channels: 3, out_channels: 3, block_out_channels: [8, 16] }),
    batchSize: 2,
    maxBucketElements: 20_000,
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
    maxBucketElements: 5000,
    loss: hybridLoss({ base: isoLoss({ lambda: 0.1 }) }),
    gradientCheckpointing: true,
  },
};

async function threeSteps(name: string, device: ConcreteDevice) {
  const { model, batchSize, maxBucketElements, loss, gradientCheckpointing } = cases[
    name
  ] as (typeof cases)[string];
  const { graph, buckets, state, dropouts } = buildTrainingGraph({
    model,
    loss: loss ?? isoLoss({ lambda: 0.1 }),
    gradientCheckpointing,
    predictionType: 'epsilon',
    betas: new DDPMScheduler().betas,
    alphasCumprod: new DDPMScheduler().alphasCumprod,
    batchSize,
    adam,
    maxGradNorm: 1,
    ema: true,
    mode: 'single',
    maxBucketElements,
  });
  expect(buckets.length).toBeGreaterThan(1);
  const parameters = initialParameters(model, 0);
  const starts = state.filter(({ kind }) => kind === 'parameters' || kind === 'ema');
  const slots = state.map((vector) => ({ name: vector.name, length: vector.bucket.length }));
  const initial = new Map(starts.map((vector) => [vector.name, packBucket(parameters, vector.bucket)]));
  const session = await TrainingSession.create(graph, slots, initial, device, {
    forbidFallback: device !== 'cpu',
  });
  const random = new RandomStream(1);
  const metrics: number[] = [];
  const shape = [1, batchSize, ...model.sampleShape];
  const normal = () => hostTensor('float32', shape, random.fillNormal(new Float32Array(elementCount(shape))));
  for (let step = 1; step <= 3; step++) {
    const scalar = (value: number) => hostTensor('float32', [1], Float32Array.of(value));
    const masks = dropouts.map(({ name: input, length }) => {
      const numbers = Float32Array.from({ length }, () => random.integer(2039) - 1019);
      return [input, hostTensor('float32', [1, length], numbers)] as const;
    });
    const { stepSize, epsilon, keep } = adamScalars(step, 1e-3, adam);
    const outputs = await session.run({
      clean: normal(),
      noise: normal(),
      timestep: hostTensor(
        'int32',
        [1, batchSize],
        Int32Array.from({ length: batchSize }, () => random.integer(1000)),
      ),
      step_size: scalar(stepSize),
      epsilon: scalar(epsilon),
      keep: scalar(keep),
      one_minus_decay: scalar(0.5),
      ...Object.fromEntries(masks),
    });
    metrics.push(...float32Data(outputs.metrics, 'metrics'));
  }
  const final = await session.state();
  await session.release();
  return { metrics, state: final };
}

describe.skipIf(!hasWebgpu).each(Object.keys(cases))('a training step on webgpu: %s', (name) => {
  it('runs without falling back to the cpu and equals the cpu within 1e-3', async () => {
    const cpu = await threeSteps(name, 'cpu');
    const gpu = await threeSteps(name, 'webgpu');
    gpu.metrics.forEach((value, i) => {
      expect(value).toBeCloseTo(cpu.metrics[i] as number, 3);
    });
    for (const [slot, vector] of cpu.state) {
      const other = gpu.state.get(slot) as Float32Array;
      // By norm, not by element: the bias of a key has a gradient of exactly 0, so that each device's rounding there
      // becomes, divided by its own size, a whole step of Adam.
      const difference = Math.hypot(...vector.map((value, i) => value - (other[i] as number)));
      expect(difference / Math.hypot(...vector), slot).toBeLessThan(1e-3);
    }
  }, 180_000);
});

// Of the small network only: a U-Net takes half a minute for three steps on a software driver.
it.skipIf(!hasWebgpu)(
  'a training step on webgpu gives the same bits twice',
  async () => {
    const name = 'the 2-D network';
    expect(await threeSteps(name, 'webgpu')).toEqual(await threeSteps(name, 'webgpu'));
  },
  180_000,
);

describe.skipIf(!hasWebgpu)('several batches a step on webgpu', () => {
  it('stay on the GPU and equal the cpu within 1e-3', async () => {
    const model = new ConditionalDense({ hidden_features: 16 });
    const parameters = initialParameters(model, 0);
    const [bucket] = planFlatBuckets(model.parameters);
    const start = packBucket(parameters, bucket as FlatBucket);
    const create = async (device: ConcreteDevice) => {
      const settings = {
        model,
        loss: isoLoss({ lambda: 0.1 }),
        predictionType: 'epsilon' as const,
        betas: new DDPMScheduler().betas,
        alphasCumprod: new DDPMScheduler().alphasCumprod,
        batchSize: 16,
        accumulationSteps: 3,
        adam,
        maxGradNorm: 1,
        ema: true,
        maxBucketElements: 1500,
      };
      const batches = new BatchSource(pointSource(circle()), 48, 1000, 0);
      const initial = new Map([
        ['parameters' as const, start.slice()],
        ['ema' as const, start.slice()],
      ]);
      const schedules = { learningRate: () => 1e-3, emaDecay: () => 0.5 };
      return device === 'cpu'
        ? createSplitEngine(settings, 3, initial, batches, schedules)
        : AccumulatingTrainingEngine.create(settings, device, initial, batches, schedules, {
            forbidFallback: true,
          });
    };
    const outcome = async (device: ConcreteDevice) => {
      const engine = await create(device);
      const rows = await engine.run(0, 2);
      const state = await engine.state();
      await engine.release();
      return { rows, state };
    };
    const cpu = await outcome('cpu');
    const gpu = await outcome('webgpu');
    gpu.rows.forEach((row, i) => {
      row.forEach((value, j) => {
        expect(value).toBeCloseTo(cpu.rows[i]?.[j] ?? Number.NaN, 3);
      });
    });
    for (const [kind, vector] of cpu.state) {
      const other = gpu.state.get(kind) ?? new Float32Array();
      const difference = Math.hypot(...vector.map((value, i) => value - (other[i] ?? Number.NaN)));
      expect(difference / Math.hypot(...vector), kind).toBeLessThan(1e-3);
    }
    // Shaders are compiled for a processor here, which a busy machine takes its time for.
  }, 300_000);
});
