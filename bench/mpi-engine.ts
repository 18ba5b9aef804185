import type { Communicator } from '../src/distributed/communicator.ts';
import { isoLoss } from '../src/losses/index.ts';
import { UNet2DModel, unet2DPreset } from '../src/models/index.ts';
import { initialVector } from '../src/models/model.ts';
import { DDPMScheduler } from '../src/schedulers/ddpm.ts';
import { BatchStream } from '../src/trainers/data/batch-stream.ts';
import { Engine } from '../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../src/trainers/training-arguments.ts';
import { LAMBDA, uniformImages } from './unet-step.ts';

/** Of `ddpm-cifar10`. */
export const PARAMETERS = 35_746_307;

/** A training of `ddpm-cifar10` with the penalty on the cpu. */
export function createEngine({
  batch,
  batches,
  over,
  ranks,
}: {
  readonly batch: number;
  /** Of a step, on each rank. */
  readonly batches: number;
  /** What the penalty is of. */
  readonly over: 'step' | 'batch';
  readonly ranks: Communicator;
}): Promise<Engine> {
  const model = new UNet2DModel(unet2DPreset('ddpm-cifar10'));
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: batch,
    gradient_accumulation_steps: batches,
    isotropy_over: over,
  });
  const options = { model, loss: isoLoss({ lambda: LAMBDA }), noise_scheduler: new DDPMScheduler() };
  const samples = uniformImages(model.sampleShape);
  const count = batch * batches;
  return Engine.create(
    stepSettings(options, args, ranks.size),
    { device: 'cpu' },
    new Map([['parameters', initialVector(model, 0)]]),
    new BatchStream(samples, {
      batchSize: count * ranks.size,
      own: { first: count * ranks.rank, count },
      trainTimesteps: 1000,
      seed: 0,
    }),
    stepSchedule(args, Number.MAX_SAFE_INTEGER),
    ranks,
  );
}
