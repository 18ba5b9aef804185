import type { PointSet } from '../../src/datasets/points/points.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { RandomStream, STREAM } from '../../src/random/random-stream.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import type { RunLogger } from '../../src/trainers/logging/run-logger.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { TrainerCallback } from '../../src/trainers/trainer-callback.ts';
import type { TrainingArguments } from '../../src/trainers/training-arguments.ts';

/** 150 points on a circle: no multiple of the batch size. */
export function circle(): PointSet {
  const stream = new RandomStream(3, STREAM.dataset);
  const data = new Float32Array(300);
  for (let i = 0; i < 150; i++) {
    const angle = 2 * Math.PI * stream.uniform();
    data[2 * i] = Math.cos(angle);
    data[2 * i + 1] = Math.sin(angle);
  }
  return {
    data,
    count: 150,
    dims: 2,
    name: 'circle',
    scaler: { kind: 'none', offset: [0, 0], scale: [1, 1] },
  };
}

/** A narrow network with everything on that a checkpoint has to hold: EMA, clipping, weight decay, a schedule. */
export function smallTrainer(
  args: TrainingArguments,
  callbacks: TrainerCallback[] = [],
  train_dataset = circle(),
  loggers: RunLogger[] = [],
  on_warning?: (message: string) => void,
): Trainer {
  return new Trainer({
    model: new ConditionalDense({ hidden_features: 16 }),
    args: {
      per_device_train_batch_size: 32,
      learning_rate: 3e-3,
      lr_scheduler_type: 'cosine',
      warmup_steps: 10,
      optim: 'adamw',
      max_grad_norm: 1,
      use_ema: true,
      device: 'cpu',
      logging_steps: 7,
      save_steps: 10,
      ...args,
    },
    train_dataset,
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler(),
    callbacks,
    loggers,
    on_warning,
  });
}
