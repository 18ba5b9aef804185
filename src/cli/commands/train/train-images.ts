import type { Autoencoder } from '../../../autoencoders/autoencoder.ts';
import { INTERPOLATIONS, labelledImages } from '../../../datasets/images/image-set.ts';
import { type ImageSet, type LoadImagesOptions, loadImages } from '../../../datasets/index.ts';
import { InvalidArgumentError } from '../../../errors.ts';
import { type DiffusionLoss, hybridLoss } from '../../../losses/index.ts';
import type { DiffusionModel } from '../../../models/index.ts';
import { learnsVariance, takesClassLabels } from '../../../models/model.ts';
import { OnnxModel } from '../../../models/onnx/model.ts';
import { modelFromConfig } from '../../../models/registry.ts';
import { leavesSizeOpen, sizedModel } from '../../../models/sample-size.ts';
import { DDPMScheduler, type Scheduler } from '../../../schedulers/index.ts';
import { type Progress, progressBar } from '../../../terminal/progress.ts';
import { Trainer } from '../../../trainers/trainer.ts';
import type { TrainerOptions } from '../../../trainers/trainer-options.ts';
import * as z from '../../../zod.ts';
import { givenFlag, grouped, option, type Settings } from '../../options/command-options.ts';
import { chosenUNet, isPreset, modelConfig, type modelOptions, unetFor } from '../../options/new-model.ts';
import { folderNamed, savedModel } from '../../options/saved-model.ts';
import { resolutionSchema, strictOption } from '../../options/shared-options.ts';
import { downloadBar, printWarning } from '../../ui/progress.ts';
import {
  imageFormat,
  latentFormat,
  type latentOptions,
  latentsFor,
  openAutoencoder,
  refuseWithoutAutoencoder,
} from './latent-options.ts';

export const imageOptions = grouped('Images:', {
  resolution: option(
    '--resolution <side|HxW>',
    z.optional(resolutionSchema),
    "size of the images (default: the model's, the data set's, or 64)",
  ),
  channels: option(
    '--channels <count>',
    z.optional(z.union([z.literal(1), z.literal(3), z.literal(4)])),
    "1 grey, 3 RGB, 4 RGBA (default: the model's, or the data set's)",
  ),
  stretch: option(
    '--stretch',
    z.optional(z.boolean()),
    'stretch whole images to the size instead of cropping their centre',
  ),
  center_crop: option('--center-crop', z.optional(z.boolean()), 'crop the centre (default)'),
  random_crop: option('--random-crop', z.optional(z.boolean()), 'crop a random place each time instead of the centre'),
  interpolation: option(
    '--interpolation <name>',
    z.optional(z.enum(INTERPOLATIONS)),
    'bilinear (default), bicubic or lanczos',
  ),
  strict: strictOption(),
  random_flip: option('--random-flip', z.optional(z.boolean()), 'mirror each image with probability 1/2'),
  split: option(
    '--split <name>',
    z.optional(z.string()),
    'split of the images: train (default), validation, test, or all',
  ),
  dataset_config_name: option(
    '--dataset-config-name <name>',
    z.optional(z.string()),
    'configuration of a data set of the Hub (default: its only or default one)',
  ),
  dataset_revision: option(
    '--dataset-revision <name>',
    z.optional(z.string()),
    'branch, tag or commit of a data set of the Hub (default: main)',
  ),
  label_column: option(
    '--label-column <name>',
    z.optional(z.string()),
    'column or field of the classes (default: label, fine_label, ...)',
  ),
  data_dir: option(
    '--data-dir <folder>',
    z.optional(z.string()),
    'mnist-10k, emoji, flowers102, pets: folder of their archive, instead of a download',
  ),
  cache_dir: option('--cache-dir <folder>', z.optional(z.string()), 'folder of downloads and resized images'),
  dropout: option(
    '--dropout <probability>',
    z.optional(z.number()),
    "dropout in the U-Net's blocks (default: the model's, which is 0)",
  ),
  learn_variance: option(
    '--learn-variance',
    z.optional(z.boolean()),
    'the new model also learns its variance, with the hybrid loss on top of --loss',
  ),
  vlb_weight: option(
    '--vlb-weight <weight>',
    z.optional(z.number()),
    'weight of the variational bound with a learned variance (default: 0.001)',
  ),
  condition_dataset: option(
    '--condition-dataset <source>',
    z.optional(z.string()),
    'images that the model is given beside the samples, one for each in the same order; brought to their size, mirrored and cropped alike',
  ),
  condition_channels: option(
    '--condition-channels <count>',
    z.optional(z.union([z.literal(1), z.literal(3), z.literal(4)])),
    "channels of the images of --condition-dataset (default: the model's, or as many as the samples have)",
  ),
  init_from: option('--init-from <folder|hub-id|file.onnx>', z.optional(z.string()), 'fine-tune this saved model'),
  class_conditional: option(
    '--class-conditional',
    z.optional(z.boolean()),
    'use the labels: sub-folders or label columns are the classes',
  ),
  class_dropout_prob: option(
    '--class-dropout-prob <probability>',
    z.optional(z.number()),
    'probability of hiding the class, for guidance; 0.1 is usual (default: 0)',
  ),
});

/** Includes options shared with points. */
type ImageSettings = Settings<typeof imageOptions & typeof latentOptions & typeof modelOptions> & {
  readonly n: number | undefined;
  readonly prediction_type: string | undefined;
  readonly beta_schedule: string | undefined;
  readonly num_train_timesteps: number | undefined;
};

/** Gets images in the size that was asked for, else that of the model. */
export type GetImages = (
  source: string,
  settings: DataSettings,
  modelResolution: number | readonly [number, number] | undefined,
  modelChannels: number | undefined,
) => Promise<ImageSet>;

/**
 * A trainer of a new or a saved model. Prints one line about the data and the model.
 *
 * @param get default: the images are loaded.
 */
export async function imageTrainer(
  source: string,
  settings: ImageSettings,
  common: Omit<TrainerOptions, 'model' | 'train_dataset'>,
  {
    get = loadTrainingImages,
    print = console.log,
  }: { readonly get?: GetImages; readonly print?: (line: string) => void } = {},
): Promise<Trainer> {
  refuseConflicts(settings);
  const { random_flip, class_dropout_prob, init_from } = settings;
  const args = { ...common.args, random_flip, class_dropout_prob };
  const saved = init_from === undefined ? undefined : await tunedModel(init_from);
  const autoencoder = settings.autoencoder ?? saved?.autoencoder;
  if (autoencoder === undefined) refuseWithoutAutoencoder(settings);
  const session = autoencoder === undefined ? undefined : await openAutoencoder(autoencoder, args);
  const { images: loaded, model } = saved
    ? await imagesFor(saved.model, `--init-from '${init_from}'`, source, settings, session?.autoencoder, get)
    : await newModel(source, settings, session?.autoencoder, get);
  const condition_dataset = await conditionImages(model, settings, get);
  const used = takesClassLabels(model) ? labelledImages(loaded) : loaded;
  const trainer = new Trainer({
    ...common,
    ...(session ? latentsFor(settings, session, settings.autoencoder === undefined) : {}),
    noise_scheduler: schedulerFor(saved?.noise_scheduler ?? common.noise_scheduler, session?.autoencoder),
    model,
    args,
    loss: lossOf(model, common.loss, settings),
    // Conditions are paired with all that was loaded.
    train_dataset: condition_dataset ? loaded : used,
    condition_dataset,
  });
  print(description(used, model, loaded.count - used.count, session?.autoencoder));
  return trainer;
}

/** Latents lie outside [-1, 1] too, to which a new run would clip its samples. */
function schedulerFor(scheduler: Scheduler, autoencoder: Autoencoder | undefined): Scheduler {
  return autoencoder ? DDPMScheduler.fromConfig({ ...scheduler.toConfig(), clip_sample: false }) : scheduler;
}

/** What the model is given beside its samples, in their size; the trainer refuses a set that is missing. */
async function conditionImages(
  model: DiffusionModel,
  settings: ImageSettings,
  get: GetImages,
): Promise<ImageSet | undefined> {
  const { condition_dataset, condition_channels } = settings;
  const flag = givenFlag(settings, ['condition_channels']);
  if (condition_dataset === undefined && flag !== undefined)
    throw new InvalidArgumentError(`option ${flag} is of the images of --condition-dataset: name them`);
  if (condition_dataset === undefined) return undefined;
  const [, height = 1, width = 1] = model.sampleShape;
  const channels = condition_channels ?? imageChannels(model.conditionChannels);
  return get(condition_dataset, { ...settings, resolution: [height, width], channels }, undefined, undefined);
}

/** A saved model replaces `--model`; a pipeline folder also brings its noise schedule, an ONNX file does not. */
function refuseConflicts(settings: ImageSettings): void {
  const { init_from, class_conditional, class_dropout_prob } = settings;
  const brought = [
    ...(['model', 'model_config', 'class_conditional', 'dropout', 'learn_variance'] as const),
    ...(isOnnx(init_from) ? [] : (['prediction_type', 'beta_schedule', 'num_train_timesteps'] as const)),
  ];
  const given = givenFlag(settings, brought);
  if (init_from !== undefined && given !== undefined)
    throw new InvalidArgumentError(`'${init_from}' brings its own model and noise schedule: leave out ${given}`);
  if (class_dropout_prob && !class_conditional && init_from === undefined)
    throw new InvalidArgumentError(`--class-dropout-prob is ${class_dropout_prob}, but needs --class-conditional`);
  refuseCropsThatExclude(settings);
}

/** @throws {InvalidArgumentError} when two ways to bring images to their size are given. */
export function refuseCropsThatExclude({
  center_crop,
  random_crop,
  stretch,
}: Pick<ImageSettings, 'center_crop' | 'random_crop' | 'stretch'>): void {
  const [crop, other] = [center_crop && '--center-crop', random_crop && '--random-crop', stretch && '--stretch'].filter(
    Boolean,
  );
  if (other)
    throw new InvalidArgumentError(
      `${crop} and ${other} exclude each other: an image is cropped in one way, or stretched. Leave out one of them`,
    );
}

/** A learned variance needs the hybrid loss, or a registered one that trains it. */
function lossOf(model: DiffusionModel, base: DiffusionLoss, { vlb_weight }: ImageSettings): DiffusionLoss {
  if (learnsVariance(model) && !base.learnsVariance) return hybridLoss({ base, vlb_weight });
  if (vlb_weight === undefined) return base;
  throw new InvalidArgumentError(
    base.learnsVariance
      ? `--vlb-weight is ${vlb_weight}, but --loss has options of its own: put it into --loss-options`
      : `--vlb-weight is ${vlb_weight}, but the model learns no variance: add --learn-variance`,
  );
}

function isOnnx(file: string | undefined): boolean {
  return file?.toLowerCase().endsWith('.onnx') ?? false;
}

async function newModel(source: string, settings: ImageSettings, autoencoder: Autoencoder | undefined, get: GetImages) {
  const { model = 'small', dropout, learn_variance, class_conditional, class_dropout_prob } = settings;
  const config = await modelConfig(settings);
  if (config !== undefined && config._class_name !== 'UNet2DModel')
    return registeredModel(config, source, settings, autoencoder, get);
  const chosen = chosenUNet(isPreset(model) ? model : 'small', config);
  const { resolution, channels } = imageFormat(chosen, autoencoder);
  const images = await get(source, settings, resolution, channels);
  const classes = class_conditional ? classCount(images, class_dropout_prob ?? 0) : undefined;
  const samples = autoencoder ? latentFormat(autoencoder, images) : images;
  const { condition_dataset, condition_channels } = settings;
  const condition = condition_dataset === undefined ? 0 : (condition_channels ?? images.channels);
  return { images, model: unetFor(chosen, samples, { classes, dropout, learn_variance, condition }) };
}

/** A model of any class but the U-Net's is built from its config alone. */
async function registeredModel(
  config: Record<string, unknown>,
  source: string,
  settings: ImageSettings,
  autoencoder: Autoencoder | undefined,
  get: GetImages,
) {
  const unused = givenFlag(settings, ['class_conditional', 'dropout', 'learn_variance']);
  if (unused !== undefined)
    throw new InvalidArgumentError(`option ${unused} is for U-Nets: put it into the config of ${config._class_name}`);
  const model = modelFromConfig(config);
  return imagesFor(model, `--model ${config._class_name}`, source, settings, autoencoder, get);
}

/** The images in the size that the model needs. */
async function imagesFor(
  unsized: DiffusionModel,
  option: string,
  source: string,
  settings: ImageSettings,
  autoencoder: Autoencoder | undefined,
  get: GetImages,
) {
  // The trainer gives the size of the images to a model that leaves it open.
  const model =
    leavesSizeOpen(unsized) && !autoencoder ? sizedModel(unsized, settings.resolution ?? DEFAULT_SIDE) : unsized;
  const [channels, height, width] = model.sampleShape;
  if (channels === undefined || height === undefined || width === undefined)
    throw new InvalidArgumentError(`${option} is a model of points, but '${source}' has images`);
  const format = imageFormat({ resolution: [height, width], channels }, autoencoder);
  return { images: await get(source, settings, format.resolution, format.channels), model };
}

async function tunedModel(
  from: string,
): Promise<{ model: DiffusionModel; noise_scheduler?: DDPMScheduler; autoencoder?: string | undefined }> {
  if (isOnnx(from)) return { model: await OnnxModel.fromFile(from) };
  return downloadBar(async (progress_callback) => savedModel(await folderNamed(from, { progress_callback })));
}

/** What says which images are loaded, and how. */
type DataSettings = Pick<
  ImageSettings,
  | 'n'
  | 'resolution'
  | 'channels'
  | 'stretch'
  | 'random_crop'
  | 'interpolation'
  | 'data_dir'
  | 'cache_dir'
  | 'split'
  | 'label_column'
  | 'strict'
  | 'dataset_config_name'
  | 'dataset_revision'
> & { readonly condition_dataset?: string | undefined };

/** The options of `loadImages`: what was asked for, else what fits the model. */
export function imageLoading(
  settings: DataSettings,
  modelResolution: number | readonly [number, number] | undefined,
  modelChannels: number | undefined,
): LoadImagesOptions {
  const { n, stretch, random_crop, interpolation, data_dir, cache_dir, split, label_column } = settings;
  const { dataset_config_name, dataset_revision: revision } = settings;
  const resolution = settings.resolution ?? modelResolution;
  return {
    resolution: typeof resolution === 'object' ? [...resolution] : resolution,
    channels: settings.channels ?? imageChannels(modelChannels),
    ...(random_crop ? { random_crop } : { center_crop: !stretch }),
    interpolation,
    data_dir,
    cache_dir,
    split,
    label_column,
    dataset_config_name,
    revision,
    // An image that is left out of one set only would pair all later ones wrongly.
    strict: settings.strict || settings.condition_dataset !== undefined,
    max_images: n,
  };
}

/** Loads the images in the size that was asked for, else that of the model. */
export async function loadTrainingImages(
  source: string,
  settings: DataSettings,
  modelResolution: number | readonly [number, number] | undefined,
  modelChannels: number | undefined,
): Promise<ImageSet> {
  let bar: Progress | undefined;
  const stopBar = () => {
    bar?.stop();
    bar = undefined;
  };
  try {
    return await downloadBar((onDownload) =>
      loadImages(source, {
        ...imageLoading(settings, modelResolution, modelChannels),
        on_warning: printWarning,
        on_progress: ({ done, total }) => {
          bar ??= progressBar('images', total ?? 0);
          bar.update(done, total === undefined ? `${done}` : '');
        },
        // A file of the Hub is downloaded between the images of the one before it and its own.
        progress_callback: (progress) => {
          stopBar();
          onDownload(progress);
        },
      }),
    );
  } finally {
    stopBar();
  }
}

/** In pixels, of images whose size neither a flag nor a model says. */
const DEFAULT_SIDE = 64;

function imageChannels(channels: number | undefined): 1 | 3 | 4 | undefined {
  return channels === 1 || channels === 3 || channels === 4 ? channels : undefined;
}

/** The number of classes; where labels are dropped, one more that stands for "no class". */
function classCount({ labels, classNames, name }: ImageSet, dropout: number): number {
  if (labels === undefined)
    throw new InvalidArgumentError(
      `--class-conditional needs labels, but '${name}' has none: put each class into a folder of its own, name the column with --label-column, or leave it out`,
    );
  const highest = labels.reduce((most, label) => Math.max(most, label), 0);
  const classes = Math.max(highest + 1, classNames?.length ?? 0);
  return dropout > 0 ? classes + 1 : classes;
}

function description(
  images: ImageSet,
  model: DiffusionModel,
  unlabelled: number,
  autoencoder: Autoencoder | undefined,
): string {
  const { name, count, height, width, channels, skipped } = images;
  const parameters = model.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const leftOut = [
    ...(skipped.length > 0 ? [`, ${skipped.length} skipped`] : []),
    ...(unlabelled > 0 ? [`, ${unlabelled} without a class left out`] : []),
  ].join('');
  const classes = model.classCount === undefined ? '' : `, ${model.classCount} classes`;
  const condition = model.conditionChannels === undefined ? '' : `, a condition of ${model.conditionChannels} channels`;
  const variance = learnsVariance(model) ? ', learned variance' : '';
  const latents = autoencoder ? `, latents of ${[...model.sampleShape.slice(1), model.sampleShape[0]].join('x')}` : '';
  return `${name}: ${count} images of ${height}x${width}x${channels}${latents}${leftOut}; model: ${(parameters / 1e6).toFixed(1)} million parameters${classes}${condition}${variance}`;
}
