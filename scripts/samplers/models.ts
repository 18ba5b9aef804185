// The two models that samplers are compared with. Each is trained where its folder is not there yet.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { loadImages, loadPoints } from '../../src/datasets/index.ts';
import { simpleLoss } from '../../src/losses/index.ts';
import { ConditionalDense, UNet2DModel } from '../../src/models/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer, type TrainerOptions, type TrainingArguments } from '../../src/trainers/index.ts';

/** The paper's network and settings, without the penalty. Returns the folder of the pipeline. */
export async function trainedRoll(parent: string): Promise<string> {
  return trained(path.join(parent, 'swiss-roll'), async () => ({
    model: new ConditionalDense(),
    args: { num_train_epochs: 1000, per_device_train_batch_size: 512 },
    train_dataset: await loadPoints('swiss-roll', { seed: 0 }),
    noise_scheduler: new DDPMScheduler({ clip_sample: false }),
  }));
}

/** A small U-Net on the 1,797 digits of 8x8 pixels. Returns the folder of the pipeline. */
export async function trainedDigits(parent: string): Promise<string> {
  return trained(path.join(parent, 'digits'), async () => ({
    model: new UNet2DModel({
      sample_size: 8,
      in_channels: 1,
      out_channels: 1,
      block_out_channels: [16, 32],
      down_block_types: ['DownBlock2D', 'DownBlock2D'],
      up_block_types: ['UpBlock2D', 'UpBlock2D'],
      layers_per_block: 1,
      norm_num_groups: 8,
    }),
    args: {
      max_steps: 1500,
      per_device_train_batch_size: 32,
      lr_scheduler_type: 'cosine',
      warmup_steps: 50,
      max_grad_norm: 1,
      use_ema: true,
    },
    train_dataset: await loadImages('digits', { resolution: 8, channels: 1 }),
    noise_scheduler: new DDPMScheduler(),
  }));
}

type Training = Pick<TrainerOptions, 'model' | 'train_dataset' | 'noise_scheduler'> & {
  readonly args: Omit<TrainingArguments, 'output_dir'>;
};

async function trained(folder: string, training: () => Promise<Training>): Promise<string> {
  const pipelineFolder = path.join(folder, 'pipeline');
  if (existsSync(pipelineFolder)) return pipelineFolder;
  console.log(`training the model of ${pipelineFolder}`);
  const { args, ...settings } = await training();
  const trainer = new Trainer({
    ...settings,
    loss: simpleLoss(),
    args: { ...args, output_dir: folder, learning_rate: 1e-3, seed: 0, device: 'cpu' },
  });
  await trainer.train();
  await trainer.savePipeline(pipelineFolder);
  return pipelineFolder;
}
