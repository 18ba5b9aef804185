import { isoLoss } from '../../src/losses/index.ts';
import { UNet2DModel, type UNet2DOptions } from '../../src/models/index.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { TrainerCallback } from '../../src/trainers/trainer-callback.ts';
import type { TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { stripes } from './stripes.ts';

/** A tiny U-Net with everything on that a checkpoint has to hold: EMA, accumulation, mirroring, clipping, a schedule. */
export function smallImageTrainer(
  args: TrainingArguments,
  callbacks: TrainerCallback[] = [],
  lambda = 0.1,
  modelOptions: UNet2DOptions = {},
): Trainer {
  return new Trainer({
    model: new UNet2DModel({
      sample_size: 8,
      in_channels: 1,
      out_channels: 1,
      block_out_channels: [8, 8],
      down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
      up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
      layers_per_block: 1,
      norm_num_groups: 4,
      ...modelOptions,
    }),
    args: {
      per_device_train_batch_size: 2,
      gradient_accumulation_steps: 2,
      random_flip: true,
      learning_rate: 1e-3,
      lr_scheduler_type: 'cosine',
      warmup_steps: 3,
      optim: 'adamw',
      max_grad_norm: 1,
      use_ema: true,
      device: 'cpu',
      logging_steps: 4,
      save_steps: 5,
      ...args,
    },
    train_dataset: stripes(),
    loss: isoLoss({ lambda }),
    noise_scheduler: new DDPMScheduler(),
    callbacks,
  });
}
