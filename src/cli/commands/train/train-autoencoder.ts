import path from 'node:path';
import type { Command } from 'commander';
import { world } from '#distributed/world';
import type { Autoencoder } from '../../../autoencoders/autoencoder.ts';
import type { ImageSet } from '../../../datasets/index.ts';
import { InvalidArgumentError } from '../../../errors.ts';
import { autoencoderLoss, type PerceptualTerm } from '../../../losses/autoencoder.ts';
import { AutoencoderTrainer } from '../../../trainers/autoencoder-trainer.ts';
import { metricsText } from '../../../trainers/progress-line.ts';
import * as z from '../../../zod.ts';
import {
  addOptions,
  givenFlag,
  grouped,
  listOption,
  option,
  readSettings,
  type Settings,
} from '../../options/command-options.ts';
import { autoencoderConfig, autoencoderOptions, newAutoencoder } from '../../options/new-autoencoder.ts';
import { outputOptions, trainingArguments, trainingOptions } from '../../options/training-options.ts';
import { printWarning } from '../../ui/progress.ts';
import { checkpointWarnings, writeTrainingPlots } from '../../ui/training.ts';
import { refuseOldRun, resumeFrom, runTrainer } from './run-trainer.ts';
import { imageOptions, loadTrainingImages, refuseCropsThatExclude } from './train-images.ts';

// What is of diffusion models alone is left out.
const {
  dropout,
  learn_variance,
  vlb_weight,
  init_from,
  condition_dataset,
  condition_channels,
  class_conditional,
  class_dropout_prob,
  ...dataOptions
} = imageOptions;
const { isotropy_over, noise_offset, input_perturbation, ...stepOptions } = trainingOptions;
const weight = z.optional(z.number());
const options = {
  ...grouped('Data:', {
    dataset: option('--dataset <name|path|hub-id>', z.optional(z.string()), 'the images, where no argument names them'),
    n: option('--n <count>', z.optional(z.number()), 'use the first n images (default: all)'),
    eval_dataset: option(
      '--eval-dataset <name|path|hub-id>',
      z.optional(z.string()),
      'other images, whose reconstruction is measured after each epoch (default: none)',
    ),
    eval_split: option('--eval-split <name>', z.optional(z.string()), 'their split, such as test (default: train)'),
    eval_steps: option('--eval-steps <count>', z.optional(z.number()), 'measure every so many steps instead'),
  }),
  ...grouped('Loss:', {
    reconstruction: option(
      '--reconstruction <name>',
      z.optional(z.enum(['l1', 'l2'])),
      'error of the images: l1 (default) or l2',
    ),
    kl_weight: option('--kl-weight <weight>', weight, 'weight of the KL divergence (default: 1e-6)'),
    codebook_weight: option('--codebook-weight <weight>', weight, 'weight of the codebook loss (default: 1)'),
    commitment_weight: option('--commitment-weight <weight>', weight, 'weight of the commitment loss (default: 0.25)'),
    perceptual: option(
      '--perceptual <file.onnx>',
      z.optional(z.string()),
      'also compare the features that this network has of the images (default: none)',
    ),
    perceptual_outputs: listOption(
      'names',
      '--perceptual-outputs <names...>',
      z.optional(z.array(z.string())),
      'names of the features in the file (default: its outputs)',
    ),
    perceptual_weight: option('--perceptual-weight <weight>', weight, 'weight of their difference (default: 1)'),
  }),
  ...autoencoderOptions,
  ...dataOptions,
  ...stepOptions,
  ...outputOptions,
  ...grouped('Output:', {
    resume_from_checkpoint: option(
      '--resume, --resume-from-checkpoint [checkpoint]',
      z.optional(z.union([z.boolean(), z.string()])),
      'continue from a checkpoint: its path, or the latest in the output folder',
    ),
  }),
};
type AutoencoderSettings = Settings<typeof options>;

export function defineTrainAutoencoder(command: Command): void {
  command.argument('[images]', 'a folder of images, a named set or a Hub id, as in --dataset of train').addHelpText(
    'after',
    `
Examples:
  iso-diffusion train-autoencoder digits --resolution 8 --kl-weight 1e-6 --output_dir runs/autoencoder
  iso-diffusion train-autoencoder ./photos --resolution 64 --model medium --ema --output_dir runs/photos-vae
  iso-diffusion train-autoencoder ./photos --resolution 64 --kind vq --num-vq-embeddings 1024 --output_dir runs/vq
  iso-diffusion train-autoencoder mnist --eval-dataset mnist --eval-split test --epochs 5 --output_dir runs/mnist-vae
  iso-diffusion train --dataset ./photos --autoencoder runs/photos-vae/autoencoder --output runs/latent

OUTPUT/autoencoder opens in diffusers too. Ctrl-C saves a checkpoint and exits 130; --resume goes on from it.`,
  );
  addOptions(command, options).action(async (images: string | undefined, flags) =>
    trainAutoencoder(images, await readSettings(options, flags)),
  );
}

async function trainAutoencoder(images: string | undefined, settings: AutoencoderSettings): Promise<void> {
  const { output_dir, report_to, eval_steps } = settings;
  const source = images ?? settings.dataset;
  if (source === undefined || (images !== undefined && settings.dataset !== undefined))
    throw new InvalidArgumentError('name the images once: train-autoencoder ./photos, or --dataset ./photos');
  refuseConflicts(settings);
  const resume = resumeFrom(settings.resume_from_checkpoint);
  const writes = world().rank === 0;
  if (!resume && writes) await refuseOldRun(output_dir);
  const loss = await chosenLoss(settings);
  const config = await autoencoderConfig(settings);
  const fromConfig = config && newAutoencoder(config, settings, { channels: 0, height: 0, width: 0 });
  const train_dataset = await loadTrainingImages(source, settings, fromConfig?.sampleSize, fromConfig?.channels);
  const autoencoder = fromConfig ?? newAutoencoder(undefined, settings, train_dataset);
  const trainer = new AutoencoderTrainer({
    autoencoder,
    args: { ...trainingArguments('images', settings), random_flip: settings.random_flip },
    train_dataset,
    loss,
    eval_dataset: await evaluationImages(settings, train_dataset),
    eval_steps,
    callbacks: [checkpointWarnings],
    on_warning: printWarning,
  });
  if (writes) console.log(description(train_dataset, autoencoder));
  const result = await runTrainer(trainer, resume);
  if (!writes) return;
  const directory = path.join(output_dir, 'autoencoder');
  await trainer.saveAutoencoder(directory);
  const plots = report_to.includes('jsonl') ? await writeTrainingPlots(output_dir, train_dataset.name) : [];
  const { psnr } = settings.eval_dataset === undefined ? { psnr: undefined } : await trainer.evaluate();
  const shown = psnr === undefined ? '' : `, psnr ${psnr.toFixed(2)} dB`;
  console.log(
    `step ${result.global_step}: ${result.metrics ? metricsText(result.metrics) : 'nothing left to do'}${shown}`,
  );
  console.log([`autoencoder: ${directory}`, ...plots.map((plot) => `plot: ${plot}`)].join('\n'));
}

/** @throws {InvalidArgumentError} when an option is given that has no effect. */
function refuseConflicts(settings: AutoencoderSettings): void {
  refuseCropsThatExclude(settings);
  const unused = [
    ...(settings.perceptual === undefined
      ? ([['--perceptual', ['perceptual_outputs', 'perceptual_weight']]] as const)
      : []),
    ...(settings.eval_dataset === undefined ? ([['--eval-dataset', ['eval_split', 'eval_steps']]] as const) : []),
  ];
  for (const [needed, names] of unused) {
    const given = givenFlag(settings, names);
    if (given !== undefined) throw new InvalidArgumentError(`${given} is given, but needs ${needed}`);
  }
}

async function chosenLoss(settings: AutoencoderSettings) {
  const { reconstruction, kl_weight, codebook_weight, commitment_weight } = settings;
  const perceptual = await perceptualTerm(settings);
  return autoencoderLoss({ reconstruction, kl_weight, codebook_weight, commitment_weight, perceptual });
}

async function perceptualTerm({
  perceptual,
  perceptual_outputs: outputs,
  perceptual_weight: weight,
}: AutoencoderSettings): Promise<PerceptualTerm | undefined> {
  if (perceptual === undefined) return undefined;
  const { OnnxFeatureMaps } = await import('../../../models/onnx/feature-maps.ts');
  return { extractor: await OnnxFeatureMaps.load(perceptual, { outputs }), weight };
}

/** In the size and with the channels of those that are trained on. */
async function evaluationImages(
  { eval_dataset, eval_split, ...settings }: AutoencoderSettings,
  { height, width, channels }: ImageSet,
): Promise<ImageSet | undefined> {
  if (eval_dataset === undefined) return undefined;
  const own = { ...settings, n: undefined, split: eval_split, random_crop: undefined, resolution: undefined };
  return loadTrainingImages(eval_dataset, { ...own, channels: undefined }, [height, width], channels);
}

function description(images: ImageSet, autoencoder: Autoencoder): string {
  const { name, count, height, width, channels } = images;
  const parameters = autoencoder.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const { downsampling, latentChannels, config } = autoencoder;
  const latents = [height / downsampling, width / downsampling, latentChannels].join('x');
  return `${name}: ${count} images of ${height}x${width}x${channels}; ${config._class_name}: ${(parameters / 1e6).toFixed(1)} million parameters, latents of ${latents}`;
}
