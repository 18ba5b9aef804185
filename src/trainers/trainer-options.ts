import { warn } from '#platform/system';
import { latentSize } from '../autoencoders/autoencoder.ts';
import type { AutoencoderSession } from '../autoencoders/session.ts';
import { type ImageSet, imagesAt, labelledIndices } from '../datasets/images/image-set.ts';
import type { PointSet } from '../datasets/points/points.ts';
import type { DiffusionLoss } from '../losses/index.ts';
import { type DiffusionModel, type SampleSize, takesClassLabels } from '../models/model.ts';
import { leavesSizeOpen, sampleSizeOption, sizedModel } from '../models/sample-size.ts';
import { parseOptions } from '../options.ts';
import type { TfjsModule } from '../runtime/tfjs/tf-module.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import * as z from '../zod.ts';
import { refuseWrongCondition } from './checks.ts';
import type { LatentSetOptions } from './data/latents.ts';
import { isImageSet } from './data/samples.ts';
import type { RunLogger } from './logging/run-logger.ts';
import type { TrainerCallback } from './trainer-callback.ts';
import type { TrainingArguments } from './training-arguments.ts';

/** What every trainer is told. */
export interface RunOptions {
  /** Hugging Face's arguments: how long, how large a step, where, and what is logged and saved. */
  readonly args: TrainingArguments;
  /** The samples, as `loadPoints` and `loadImages` return them; their shape must be that of the model. */
  readonly train_dataset: PointSet | ImageSet;
  /**
   * Scalars of the loss that `change` may change while training runs, such as `['lambda']`: they are inputs of the
   * graph instead of constants. Default: none, and a penalty of weight 0 is not computed.
   */
  readonly changeable_scalars?: readonly string[] | undefined;
  /** Hooks into the run, called in this order; default none. */
  readonly callbacks?: readonly TrainerCallback[] | undefined;
  /** Further logs of the run, beside those of `args.report_to`; default none. See docs/training-runs.md. */
  readonly loggers?: readonly RunLogger[] | undefined;
  /**
   * What computes the steps: 'onnxruntime' (default) on `args.device`, or 'tfjs' on the backend that `tf` has. Both take
   * the same steps up to rounding, and a checkpoint of one can be continued by the other. See docs/tfjs.md.
   */
  readonly engine?: 'onnxruntime' | 'tfjs' | undefined;
  /** Called with warnings, such as of a learning rate that jumps where a run is resumed. Default `process.emitWarning`. */
  readonly on_warning?: ((message: string) => void) | undefined;
  /** The module of `@tensorflow/tfjs`, `tfjs-node` or `tfjs-node-gpu`, for the engine 'tfjs'; default none. */
  readonly tf?: TfjsModule | undefined;
}

/** What a `Trainer` is made of. */
export interface TrainerOptions extends RunOptions {
  /** The model to train; its parameters start from their `init`, drawn by `args.seed`. */
  readonly model: DiffusionModel;
  /**
   * Makes it latent diffusion (Rombach et al. 2022): the model is trained on the latents of the images, which this encodes once,
   * before the first step. It stays the caller's to dispose of. Default: the model is trained on the images themselves.
   */
  readonly autoencoder?: AutoencoderSession | undefined;
  /** How images become latents, with `autoencoder`. Default: the defaults of `LatentSetOptions`. */
  readonly latents?: LatentSetOptions | undefined;
  /** What is minimised, such as `isoLoss({ lambda: 0.1 })`. */
  readonly loss: DiffusionLoss;
  /** Gives the betas, `num_train_timesteps` and `prediction_type`. */
  readonly noise_scheduler: Scheduler;
  /**
   * For a model that takes an image beside the sample (`in_channels` above `out_channels`): one for each of `train_dataset`, in
   * the same order and size, with the channels that the model takes beside the sample; mirrored and cropped alike. Small images
   * that the model shall enlarge are brought to that size first. Default: none, for models that take none.
   */
  readonly condition_dataset?: ImageSet | undefined;
  /**
   * Side, or [height, width], of the samples in pixels, for a U-Net whose config leaves it open (`sample_size: null`), or that
   * shall be trained in another size than its own. Default: what the config says, else the size of the images.
   */
  readonly sample_size?: SampleSize | undefined;
}

/**
 * What a model is trained on: one with classes only on images that have one, which have their conditions beside them.
 *
 * @throws {InvalidArgumentError} when the conditions are not as the model takes them.
 */
export function trainingSets(
  model: DiffusionModel,
  { train_dataset: data, condition_dataset: condition, on_warning = warn }: TrainerOptions,
): Pick<TrainerOptions, 'train_dataset' | 'condition_dataset'> {
  refuseWrongCondition(model, data, condition);
  const sets = { train_dataset: data, condition_dataset: condition };
  const indices = takesClassLabels(model) && isImageSet(data) ? labelledIndices(data) : undefined;
  if (!indices || !isImageSet(data)) return sets;
  on_warning(
    `${data.count - indices.length} of ${data.count} images of '${data.name}' have no class: the model with classes is not trained on them`,
  );
  return { train_dataset: imagesAt(data, indices), condition_dataset: condition && imagesAt(condition, indices) };
}

/**
 * The model in the size of its samples.
 *
 * @throws {InvalidArgumentError} when the model has one size only. @throws {ConfigError} when it does not take the size.
 */
export function modelInSize({ model, train_dataset: data, autoencoder, sample_size }: TrainerOptions): DiffusionModel {
  const sizeOf = ({ height, width }: ImageSet) =>
    autoencoder ? latentSize(autoencoder.autoencoder, [height, width]) : ([height, width] as const);
  const size = sample_size ?? (leavesSizeOpen(model) && isImageSet(data) ? sizeOf(data) : undefined);
  return sizedModel(model, parseOptions(z.optional(sampleSizeOption), size, 'sample_size'));
}

/** Options that share nothing with the caller's that could change. What is trained, and on what, is not copied. */
export function ownCopy<Options extends RunOptions & { readonly noise_scheduler?: Scheduler }>(
  options: Options,
): Options {
  const { args, noise_scheduler, callbacks = [], changeable_scalars = [], loggers = [] } = options;
  return {
    ...options,
    ...(noise_scheduler ? { noise_scheduler: noise_scheduler.clone() } : {}),
    args: { ...args },
    callbacks: [...callbacks],
    changeable_scalars: [...changeable_scalars],
    loggers: [...loggers],
  };
}
