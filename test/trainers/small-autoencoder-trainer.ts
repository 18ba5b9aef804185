import { type Autoencoder, AutoencoderKL, VQModel } from '../../src/autoencoders/index.ts';
import { AutoencoderTrainer, type AutoencoderTrainerOptions } from '../../src/trainers/autoencoder-trainer.ts';
import type { TrainerCallback } from '../../src/trainers/trainer-callback.ts';
import type { TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { smallImageRun } from './small-image-trainer.ts';
import { stripes } from './stripes.ts';

const network = {
  in_channels: 1,
  out_channels: 1,
  sample_size: 8,
  block_out_channels: [4, 8],
  down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
  up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
  norm_num_groups: 2,
  latent_channels: 2,
  mid_block_add_attention: false,
} as const;

/** Tiny autoencoders of grey images of 8x8, whose latents are 4x4. */
export const tinyAutoencoders: Readonly<Record<'kl' | 'vq', () => Autoencoder>> = {
  kl: () => new AutoencoderKL(network),
  vq: () => new VQModel({ ...network, num_vq_embeddings: 11 }),
};

/** A tiny autoencoder with everything on that a checkpoint has to hold. */
export function smallAutoencoderTrainer(
  args: TrainingArguments,
  callbacks: TrainerCallback[] = [],
  kind: keyof typeof tinyAutoencoders = 'kl',
  others: Partial<AutoencoderTrainerOptions> = {},
): AutoencoderTrainer {
  return new AutoencoderTrainer({
    autoencoder: tinyAutoencoders[kind](),
    args: {
      ...smallImageRun,
      per_device_train_batch_size: 4,
      learning_rate: 3e-3,
      ...args,
    },
    train_dataset: stripes(),
    callbacks,
    ...others,
  });
}
