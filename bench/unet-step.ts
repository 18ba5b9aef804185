import type { NamedTensor } from '../src/files/safetensors.ts';
import { elementCount } from '../src/graph/types.ts';
import { isoLoss } from '../src/losses/index.ts';
import { UNet2DModel } from '../src/models/index.ts';
import { initialVector, namedViews } from '../src/models/model.ts';
import type { ConcreteDevice } from '../src/runtime/device.ts';
import { DDPMScheduler } from '../src/schedulers/ddpm.ts';
import { BatchStream } from '../src/trainers/data/batch-stream.ts';
import { type Batches, joined } from '../src/trainers/data/prefetched-batches.ts';
import type { Samples } from '../src/trainers/data/samples.ts';
import { Engine } from '../src/trainers/engines/engine.ts';
import type { HostBatch } from '../src/trainers/step/batch.ts';
import { stepSchedule, stepSettings } from '../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../src/trainers/training-arguments.ts';

/** Weight of the isotropy penalty, here and in unet_reference.py. */
export const LAMBDA = 0.05;
const LEARNING_RATE = 1e-4;

/** A U-Net of 0.7 M parameters for square images of one channel. */
export function smallUNet(sample_size: number): UNet2DModel {
  return new UNet2DModel({
    sample_size,
    in_channels: 1,
    out_channels: 1,
    block_out_channels: [32, 64],
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 8,
  });
}

/** The weights that both sides start from. */
export function namedWeights(model: UNet2DModel): Map<string, NamedTensor> {
  const weights = namedViews(model.parameters, initialVector(model, 0));
  return new Map(
    model.parameters.map(({ name, shape }) => [
      name,
      { dtype: 'F32', shape: [...shape], data: weights.get(name) ?? new Float32Array() },
    ]),
  );
}

/** Forward, iso loss, backward, clipping, AdamW and EMA. */
export function createEngine(
  model: UNet2DModel,
  batch: number,
  device: ConcreteDevice,
  mixed_precision: 'no' | 'fp16' = 'no',
): Promise<Engine> {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: batch,
    learning_rate: LEARNING_RATE,
    optim: 'adamw',
    max_grad_norm: 1,
    use_ema: true,
    mixed_precision,
  });
  const initial = initialVector(model, 0);
  return Engine.create(
    stepSettings({ model, loss: isoLoss({ lambda: LAMBDA }), noise_scheduler: new DDPMScheduler() }, args),
    { device },
    new Map([
      ['parameters', initial],
      ['ema', initial],
    ]),
    drawnBefore(new BatchStream(uniformImages(model.sampleShape), { batchSize: batch, trainTimesteps: 1000, seed: 0 })),
    stepSchedule(args, Number.MAX_SAFE_INTEGER),
  );
}

/** A few batches again and again: in training a thread draws them meanwhile, and the reference draws on its device. */
function drawnBefore(stream: BatchStream, different = 4): Batches {
  const drawn = Array.from({ length: different }, (_, step) => stream.steps(step, 1));
  return {
    steps: (first, count) =>
      joined(Array.from({ length: count }, (_, i) => drawn[(first + i) % different] as HostBatch)),
    dropoutNumbers: (place, target) => stream.dropoutNumbers(place, target),
  };
}

/** As the reference: images whose values are uniform in [-1, 1]. */
export function uniformImages(sampleShape: readonly number[]): Samples {
  return {
    name: 'uniform',
    count: 50_000,
    sampleShape,
    fingerprint: 'uniform',
    fill: (_index, target, stream) => {
      for (let i = 0; i < elementCount(sampleShape); i++) target[i] = 2 * stream.uniform() - 1;
    },
  };
}
