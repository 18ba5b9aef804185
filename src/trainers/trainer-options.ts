import { warn } from '#platform/system';
import { type ImageSet, labelledImages } from '../datasets/images/image-set.ts';
import type { PointSet } from '../datasets/points/points.ts';
import type { DiffusionLoss } from '../losses/index.ts';
import type { DiffusionModel } from '../models/model.ts';
import type { TfjsModule } from '../runtime/tfjs/tf-module.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
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
   * Scalars of the loss that `Trainer.change` may change while training runs, such as `['lambda']`: they are inputs of the
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

export interface TrainerOptions extends RunOptions {
  /** The model to train; its parameters start from their `init`, drawn by `args.seed`. */
  readonly model: DiffusionModel;
  /** What is minimised, such as `isoLoss({ lambda: 0.1 })`. */
  readonly loss: DiffusionLoss;
  /** Gives the betas, `num_train_timesteps` and `prediction_type`. */
  readonly noise_scheduler: Scheduler;
}

/** What a model is trained on: one with classes only on images that have one. */
export function trainingSet({ model, train_dataset: data, on_warning = warn }: TrainerOptions): PointSet | ImageSet {
  if (model.classCount === undefined || !isImageSet(data)) return data;
  const labelled = labelledImages(data);
  if (labelled.count < data.count)
    on_warning(
      `${data.count - labelled.count} of ${data.count} images of '${data.name}' have no class: the model with classes is not trained on them`,
    );
  return labelled;
}

/** Options that share nothing with the caller's that could change. The data set and the model are not copied. */
export function ownCopy<Options extends Omit<TrainerOptions, 'model'>>(options: Options): Options {
  const { args, noise_scheduler, callbacks = [], changeable_scalars = [], loggers = [] } = options;
  return {
    ...options,
    args: { ...args },
    noise_scheduler: noise_scheduler.clone(),
    callbacks: [...callbacks],
    changeable_scalars: [...changeable_scalars],
    loggers: [...loggers],
  };
}
