import { isoLoss } from '../../src/losses/index.ts';
import type { UNet2DOptions } from '../../src/models/index.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { TrainerCallback } from '../../src/trainers/trainer-callback.ts';
import type { TrainerOptions } from '../../src/trainers/trainer-options.ts';
import type { TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { stripes } from './stripes.ts';

/** Two batches a step, and all that a checkpoint has to keep. */
export const smallImageRun = {
  gradient_accumulation_steps: 2,
  random_flip: true,
  lr_scheduler_type: 'cosine',
  warmup_steps: 3,
  optim: 'adamw',
  max_grad_norm: 1,
  use_ema: true,
  device: 'cpu',
  logging_steps: 4,
  save_steps: 5,
} as const;

/** A tiny U-Net with everything on that a checkpoint has to hold: EMA, accumulation, mirroring, clipping, a schedule. */
export function smallImageTrainer(
  args: TrainingArguments,
  callbacks: TrainerCallback[] = [],
  lambda = 0.1,
  modelOptions: UNet2DOptions = {},
  options: Partial<TrainerOptions> = {},
): Trainer {
  return new Trainer({
    model: tinyUNet(modelOptions),
    args: {
      ...smallImageRun,
      per_device_train_batch_size: 2,
      learning_rate: 1e-3,
      ...args,
    },
    train_dataset: stripes(),
    loss: isoLoss({ lambda }),
    noise_scheduler: new DDPMScheduler(),
    callbacks,
    ...options,
  });
}
