import path from 'node:path';
import type { Command } from 'commander';
import { world } from '#distributed/world';
import { dataSetKind, IMAGE_SET_NAMES, POINT_SET_NAMES } from '../../../datasets/named-data-set.ts';
import { POINT_FILES } from '../../../datasets/points/point-files.ts';
import { InvalidArgumentError } from '../../../errors.ts';
import { HUB_ID, ONNX_DTYPES } from '../../../hub/hub-options.ts';
import { PIPELINE_LAYOUTS } from '../../../hub/pipeline-folder.ts';
import { type DiffusionLoss, losses, lossFromConfig } from '../../../losses/index.ts';
import { DDPMScheduler } from '../../../schedulers/index.ts';
import { metricsText } from '../../../trainers/progress-line.ts';
import type { Trainer } from '../../../trainers/trainer.ts';
import * as z from '../../../zod.ts';
import {
  addOptions,
  givenFlag,
  grouped,
  jsonObject,
  jsonSchema,
  option,
  readSettings,
  type Settings,
  withAliases,
} from '../../options/command-options.ts';
import { diffusersNames } from '../../options/diffusers-flags.ts';
import { push, pushOptions, pushTarget, refuseUnusedHubOptions } from '../../options/hub-options.ts';
import { modelOptions } from '../../options/new-model.ts';
import { outputOptions, trainingArguments, trainingOptions } from '../../options/training-options.ts';
import { printWarning } from '../../ui/progress.ts';
import { samplePictures } from '../../ui/run-page.ts';
import { checkpointWarnings, writeTrainingPlots } from '../../ui/training.ts';
import { latentOptions } from './latent-options.ts';
import { refuseOldRun, resumeFrom, runTrainer } from './run-trainer.ts';
import { type GetImages, imageOptions, imageTrainer } from './train-images.ts';
import { pointOptions, pointTrainer } from './train-points.ts';
import { type Watched, watchOptions, watchRun } from './watch.ts';

/** The default weight of the penalty. */
const LAMBDA = { points: 0.1, images: 0.05 } as const;

/** A data set that `--dataset` names. */
export interface DatasetName {
  readonly kind: 'points' | 'images';
  /** For `loadPoints` or `loadImages`. */
  readonly source: string;
}

const ownOptions = {
  ...grouped('Data:', {
    dataset: option(
      '--dataset <name|path|hub-id>',
      z._default(z.string(), 'swiss-roll'),
      `points: ${POINT_SET_NAMES.join(', ')}, or a ${POINT_FILES} file; images or points: a .parquet file, or owner/name of the Hugging Face Hub; images: ${IMAGE_SET_NAMES.join(', ')}, a folder, a .tar, MNIST or CIFAR-10 file`,
    ),
    n: option('--n <count>', z.optional(z.number()), 'use the first n samples (default: all; 10000 synthetic points)'),
  }),
  ...grouped('Loss:', {
    loss: option('--loss <name>', z._default(z.string(), 'iso'), `${losses.names().join(', ')}, or a registered one`),
    loss_options: option(
      '--loss-options <json|file.json>',
      z.optional(jsonSchema),
      'options of the loss, such as {"lambda": 0.1}',
    ),
    base_loss: option(
      '--base-loss <name|json>',
      z.optional(jsonSchema),
      'what iso adds its penalty to: simple (default), or another loss: min-snr, or {"name": "min-snr", "snr_gamma": 5}',
    ),
    lambda: option(
      '--lambda <weight>',
      z.optional(z.number()),
      `weight of the isotropy penalty of iso; 0 is plain DDPM (default: points ${LAMBDA.points}, images ${LAMBDA.images})`,
    ),
    prediction_type: option(
      '--prediction-type <type>',
      z.optional(z.enum(['epsilon', 'v_prediction', 'sample'])),
      'what the model predicts: epsilon (default), v_prediction or sample',
    ),
    beta_schedule: option(
      '--beta-schedule <name>',
      z.optional(z.enum(['linear', 'scaled_linear', 'squaredcos_cap_v2', 'sigmoid'])),
      'linear (default), scaled_linear, squaredcos_cap_v2 or sigmoid',
    ),
    num_train_timesteps: option('--num-train-timesteps <T>', z.optional(z.number()), 'timesteps (default: 1000)'),
  }),
  ...modelOptions,
  ...pointOptions,
  ...imageOptions,
  ...latentOptions,
  ...trainingOptions,
  ...watchOptions,
  ...outputOptions,
  ...pushOptions,
  ...grouped('Output:', {
    resume_from_checkpoint: option(
      '--resume, --resume-from-checkpoint [checkpoint]',
      z.optional(z.union([z.boolean(), z.string()])),
      'continue from a checkpoint: its path, or the latest in the output folder',
    ),
    layout: option(
      '--layout <name>',
      z._default(z.enum(PIPELINE_LAYOUTS), 'nested'),
      'folder of the pipeline: nested, flat or transformers.js (which AutoModel of transformers.js opens)',
    ),
    onnx_dtype: option(
      '--onnx-dtype <type>',
      z._default(z.enum(ONNX_DTYPES), 'fp32'),
      'fp16: also write model_fp16.onnx, which draws in half precision',
    ),
  }),
};

/** With the names of diffusers' script. */
export const trainOptions = withAliases(ownOptions, diffusersNames);
export type TrainSettings = Settings<typeof trainOptions>;

export function defineTrain(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  iso-diffusion train --dataset swiss-roll --lambda 0.1 --output runs/swiss-roll
  iso-diffusion train --dataset points.csv --epochs 200 --lr 3e-4 --ema --output runs/mine
  iso-diffusion train --dataset digits --class-conditional --ema --epochs 20 --output runs/digits
  iso-diffusion train --dataset ./photos --resolution 32 --random-flip --ema --output runs/photos
  iso-diffusion train --dataset huggan/flowers-102-categories --split train --resolution 64 --output runs/hub
  iso-diffusion train --dataset ./photos --random-crop --dropout 0.1 --learn-variance --output runs/variance
  iso-diffusion train --dataset flowers102 --model ddpm-64 --batch-size 32 --device cuda --ema --output runs/flowers
  iso-diffusion train --dataset ./photos --autoencoder runs/autoencoder/autoencoder --ema --output runs/latent
  iso-diffusion train --dataset ./photos --init-from google/ddpm-cifar10-32 --output runs/tuned
  iso-diffusion train --dataset digits --eval-every 500 --eval-metrics fid --eval-extractor raw-pixels --keep-best fid
  iso-diffusion train --config train.yaml --seed 1 --output runs/seed-1
  iso-diffusion train --dataset digits --class-conditional --ema --epochs 40 --output runs/digits --resume
  iso-diffusion train --dataset digits --epochs 20 --output runs/digits --push-to-hub --hub-model-id me/digits

Names of diffusers' train_unconditional.py, such as --train_batch_size, are taken too (iso-diffusion from-diffusers --help).
A config file uses the names of flags with underscores: {"dataset": "moons", "learning_rate": 0.001}.
What a module of --import registers can be named in --model and --loss.
Open OUTPUT/run.html in a browser to watch the run: it loads itself again while the run lasts.
Ctrl-C saves a checkpoint and exits 130; a second Ctrl-C exits at once. --resume needs the same model, data, loss and
batches. The learning rate and its schedule, --max-grad-norm, the length of the run, the device, logging and saving may
differ, which is said and logged. After a run diverged, --resume with a lower --lr goes on from its last good checkpoint.`,
  );
  addOptions(command, trainOptions).action(async (flags) => train(await readSettings(trainOptions, flags)));
}

async function train(settings: TrainSettings): Promise<void> {
  const { output_dir } = settings;
  const source = settings.dataset;
  const { split, dataset_config_name, dataset_revision: revision, cache_dir } = settings;
  const dataset = { kind: await dataSetKind(source, { split, dataset_config_name, revision, cache_dir }), source };
  refuseOptionsOfOtherKind(dataset, settings);
  const loss = await chosenLoss(dataset, settings);
  const resume = resumeFrom(settings.resume_from_checkpoint);
  // The other ranks of mpirun only take part in the steps.
  const writes = world().rank === 0;
  if (!resume && writes) await refuseOldRun(output_dir);
  refuseUnusedHubOptions(settings);
  const target = settings.push_to_hub && writes ? await pushTarget(output_dir, settings) : undefined;
  const watched = watchRun(dataset.kind, settings);
  const trainer = await newTrainer(dataset, settings, loss, watched);
  if (process.stderr.isTTY && writes) process.stderr.write(`watch the run in ${watched.page}\n`);
  const result = await runTrainer(trainer, resume);
  if (!writes) return;
  const pipelineDir = path.join(output_dir, 'pipeline');
  const picture = (await samplePictures(watched.samples_dir)).at(-1)?.file;
  const { metrics, args: metric_args } = (await watched.resultsAt(result.global_step)) ?? {};
  const { layout, onnx_dtype } = settings;
  await trainer.savePipeline(pipelineDir, { layout, onnx_dtype, picture, metrics, metric_args });
  const plots = settings.report_to.includes('jsonl') ? await writeTrainingPlots(output_dir, settings.dataset) : [];
  const summary = result.metrics ? metricsText(result.metrics) : 'nothing left to do';
  console.log(`step ${result.global_step}: ${summary}`);
  console.log(
    [`pipeline: ${pipelineDir}`, `page: ${watched.page}`, ...plots.map((plot) => `plot: ${plot}`)].join('\n'),
  );
  if (target) console.log(await push(pipelineDir, target));
}

/** An option without effect is most likely a mistake. */
export function refuseOptionsOfOtherKind({ kind, source }: DatasetName, settings: TrainSettings): void {
  const [otherKind, table] =
    kind === 'points' ? ['images', { ...imageOptions, ...latentOptions }] : ['points', pointOptions];
  // Points of the Hub have splits and configurations too.
  const shared = HUB_ID.test(source) ? ['split', 'dataset_config_name', 'dataset_revision', 'cache_dir'] : [];
  const other = givenFlag(
    settings,
    Object.keys(table).filter((name) => !shared.includes(name)),
  );
  if (other !== undefined)
    throw new InvalidArgumentError(`option ${other} is for ${otherKind}, but '${source}' has ${kind}`);
}

export async function chosenLoss(
  { kind }: DatasetName,
  { loss, lambda, base_loss, loss_options }: TrainSettings,
): Promise<DiffusionLoss> {
  const given = await jsonObject('--loss-options', loss_options);
  if (loss === 'iso') {
    const base = base_loss === undefined ? {} : { base: await baseLoss(base_loss) };
    return lossFromConfig({ name: loss, lambda: lambda ?? LAMBDA[kind], ...base, ...given });
  }
  if (base_loss !== undefined)
    throw new InvalidArgumentError(
      `--base-loss belongs to --loss iso, but the loss is '${loss}': leave one of them out`,
    );
  if (lambda !== undefined)
    throw new InvalidArgumentError(
      `--lambda is ${lambda}, but it belongs to --loss iso: leave it out, or put the options of '${loss}' into --loss-options`,
    );
  return lossFromConfig({ name: loss, ...given });
}

/** The config of a loss that was given by its name alone, or with options. */
async function baseLoss(given: string | Record<string, unknown>): Promise<Record<string, unknown>> {
  if (typeof given !== 'string' || /^\s*\{|\.json$/.test(given)) return jsonObject('--base-loss', given);
  losses.get(given);
  return { name: given };
}

/**
 * The trainer that the settings describe. It writes nothing before it trains.
 *
 * @param given.get how images are got; default: they are loaded. @param given.print of a line about the data and the model.
 */
export function newTrainer(
  { kind, source }: DatasetName,
  settings: TrainSettings,
  loss: DiffusionLoss,
  { callbacks, loggers }: Pick<Watched, 'callbacks' | 'loggers'>,
  given: { readonly get?: GetImages; readonly print?: (line: string) => void } = {},
): Promise<Trainer> {
  const { num_train_timesteps, prediction_type, beta_schedule } = settings;
  const schedule = { num_train_timesteps, prediction_type, beta_schedule };
  // Clipping would cut off points outside [-1, 1]; the paper's 2-D reverse process does not clip.
  const noise_scheduler = new DDPMScheduler({ ...schedule, clip_sample: kind === 'images' });
  const args = trainingArguments(kind, settings);
  const warned = [checkpointWarnings, ...callbacks];
  const common = { args, loss, noise_scheduler, callbacks: warned, loggers, on_warning: printWarning };
  return kind === 'points' ? pointTrainer(source, settings, common) : imageTrainer(source, settings, common, given);
}
