import { pointsFromArray } from '../../../src/datasets/points/points.ts';
import { isoLoss } from '../../../src/losses/index.ts';
import { ConditionalDense } from '../../../src/models/conditional-dense.ts';
import { type DiffusionModel, initialVector } from '../../../src/models/model.ts';
import { unet2DPreset } from '../../../src/models/unet-2d/presets.ts';
import { UNet2DModel } from '../../../src/models/unet-2d/unet-2d.ts';
import { RandomStream, STREAM } from '../../../src/random/random-stream.ts';
import type { ConcreteDevice } from '../../../src/runtime/device.ts';
import { DDPMScheduler } from '../../../src/schedulers/ddpm.ts';
import { BatchStream } from '../../../src/trainers/data/batch-stream.ts';
import type { Samples } from '../../../src/trainers/data/samples.ts';
import { DeviceBackend } from '../../../src/trainers/engines/device.ts';
import { Engine } from '../../../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../../src/trainers/training-arguments.ts';

/** The state after some steps, and the loss of each. */
export interface Trained {
  readonly parameters: Float32Array;
  readonly losses: readonly number[];
  readonly seconds: number;
}

interface Run {
  readonly batch: number;
  readonly steps: number;
  readonly device?: ConcreteDevice;
  readonly learning_rate?: number;
  /** Several batches a step, which the cpu computes with the gradients on the host. */
  readonly accumulation?: number;
}

/** Steps of the paper's network on a Swiss roll of 2,000 points. */
export async function trainPoints(run: Run): Promise<Trained> {
  const model = new ConditionalDense();
  const stream = new RandomStream(0, STREAM.dataset);
  const points = Float32Array.from({ length: 4000 });
  for (let i = 0; i < 2000; i++) {
    const t = 1.5 * Math.PI * (1 + 2 * stream.uniform());
    points.set([t * Math.cos(t), t * Math.sin(t)], 2 * i);
  }
  const { data } = pointsFromArray(points, 2, { name: 'roll' });
  const fill: Samples['fill'] = (index, target) => target.set(data.subarray(2 * index, 2 * index + 2));
  return train(model, { name: 'roll', count: 2000, sampleShape: [2], fingerprint: '', fill }, run);
}

/**
 * Steps of the small U-Net without its middle level: all kinds of blocks, but fewer shapes, each of which has shaders of its
 * own. @param images of 8 x 8 pixels in [-1, 1].
 */
export async function trainUNet(run: Run, images: Float32Array): Promise<Trained> {
  const model = new UNet2DModel({
    ...unet2DPreset('small', { sample_size: 8, in_channels: 1, out_channels: 1 }),
    block_out_channels: [32, 64],
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
  });
  const fill: Samples['fill'] = (index, target) => target.set(images.subarray(64 * index, 64 * (index + 1)));
  const count = images.length / 64;
  return train(model, { name: 'digits', count, sampleShape: model.sampleShape, fingerprint: '', fill }, run);
}

async function train(
  model: DiffusionModel,
  samples: Samples,
  { batch, steps, device = 'cpu', accumulation = 1, learning_rate = 1e-3 }: Run,
): Promise<Trained> {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: batch,
    gradient_accumulation_steps: accumulation,
    learning_rate,
  });
  const settings = stepSettings({ model, loss: isoLoss({ lambda: 0.1 }), noise_scheduler: new DDPMScheduler() }, args);
  const schedule = stepSchedule(args, steps);
  const batches = new BatchStream(samples, { batchSize: batch * accumulation, trainTimesteps: 1000, seed: 0 });
  const initial = new Map([['parameters' as const, initialVector(model, 0)]]);
  const engine =
    device === 'webgpu'
      ? new Engine(await DeviceBackend.create(settings, device, initial), settings, batches, schedule)
      : await Engine.create(settings, { device }, initial, batches, schedule);
  try {
    const start = performance.now();
    const losses: number[] = [];
    while (losses.length < steps) {
      const count = Math.min(engine.maxStepsPerRun, steps - losses.length);
      for (const { loss = Number.NaN } of await engine.run(losses.length, count)) losses.push(loss);
    }
    const seconds = (performance.now() - start) / 1000;
    const parameters = (await engine.state()).get('parameters') ?? new Float32Array();
    return { parameters, losses, seconds };
  } finally {
    await engine.release();
  }
}
