import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { packBucket } from '../../src/graph/flat-state.ts';
import { adamScalars } from '../../src/graph/optimizer.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { initialParameters } from '../../src/models/model.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import type { ConcreteDevice } from '../../src/runtime/device.ts';
import { isAvailable } from '../../src/runtime/device.ts';
import { float32Data, hostTensor } from '../../src/runtime/session.ts';
import { TrainingSession } from '../../src/runtime/training-session.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { buildTrainingGraph } from '../../src/trainers/training-graph.ts';

const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (existsSync(SWIFTSHADER)) {
  // Read by the Vulkan loader when the first session asks for an adapter.
  process.env.VK_DRIVER_FILES ??= SWIFTSHADER;
  process.env.XDG_RUNTIME_DIR ??= '/tmp';
}
const available = await isAvailable('webgpu');
if (!available)
  console.warn(
    'skipping the webgpu tests: no adapter (apt-get install chromium libvulkan1 brings SwiftShader)',
  );

const BATCH = 16;
const adam = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
const built = buildTrainingGraph({
  model: new ConditionalDense({ hidden_features: 16 }),
  loss: isoLoss({ lambda: 0.1 }),
  predictionType: 'epsilon',
  alphasCumprod: new DDPMScheduler().alphasCumprod,
  batchSize: BATCH,
  adam,
  maxGradNorm: 1,
  ema: true,
  mode: 'single',
  // Two buckets, as a model too large for one GPU buffer has.
  maxBucketElements: 1500,
});

async function threeSteps(device: ConcreteDevice) {
  const parameters = initialParameters(new ConditionalDense({ hidden_features: 16 }), 0);
  const starts = built.state.filter(({ kind }) => kind === 'parameters' || kind === 'ema');
  const slots = built.state.map(({ name, bucket }) => ({ name, length: bucket.length }));
  const initial = new Map(starts.map(({ name, bucket }) => [name, packBucket(parameters, bucket)]));
  const session = await TrainingSession.create(built.graph, slots, initial, device, {
    forbidFallback: device !== 'cpu',
  });
  const random = new RandomStream(1);
  const metrics: number[] = [];
  for (let step = 1; step <= 3; step++) {
    const scalar = (value: number) => hostTensor('float32', [1], Float32Array.of(value));
    const { stepSize, epsilon, keep } = adamScalars(step, 1e-2, adam);
    const outputs = await session.run({
      clean: hostTensor('float32', [1, BATCH, 2], random.fillNormal(new Float32Array(BATCH * 2))),
      noise: hostTensor('float32', [1, BATCH, 2], random.fillNormal(new Float32Array(BATCH * 2))),
      timestep: hostTensor(
        'int32',
        [1, BATCH],
        Int32Array.from({ length: BATCH }, () => random.integer(1000)),
      ),
      step_size: scalar(stepSize),
      epsilon: scalar(epsilon),
      keep: scalar(keep),
      one_minus_decay: scalar(0.5),
    });
    metrics.push(...float32Data(outputs.metrics, 'metrics'));
  }
  const state = await session.state();
  await session.release();
  return { metrics, state };
}

describe.skipIf(!available)('a training step on webgpu', () => {
  it('runs without falling back to the cpu and equals the cpu within 1e-3', async () => {
    expect(built.buckets.length).toBeGreaterThan(1);
    const cpu = await threeSteps('cpu');
    const gpu = await threeSteps('webgpu');
    gpu.metrics.forEach((value, i) => {
      expect(value).toBeCloseTo(cpu.metrics[i] as number, 3);
    });
    for (const [name, vector] of cpu.state) {
      const other = gpu.state.get(name) as Float32Array;
      const worst = vector.reduce(
        (max, value, i) => Math.max(max, Math.abs(value - (other[i] as number)) / (1 + Math.abs(value))),
        0,
      );
      expect(worst, name).toBeLessThan(1e-3);
    }
  });

  it('gives the same bits twice', async () => {
    expect(await threeSteps('webgpu')).toEqual(await threeSteps('webgpu'));
  });
});
