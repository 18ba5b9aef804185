import type { ImageSet } from '../datasets/images/image-set.ts';
import type { PointSet } from '../datasets/points/points.ts';
import type { Communicator } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { ModelConfig } from '../models/model.ts';
import type { RunLoggers } from './logging/run-logger.ts';

/** The run that a callback is part of. */
export interface TrainerRun {
  /** The folder of the run. */
  readonly output_dir: string;
  /** Whether a diffusion model or an autoencoder is trained, and its config. */
  readonly trained: {
    /** What it is. */
    readonly name: 'model' | 'autoencoder';
    /** Its class and options. */
    readonly config: ModelConfig;
  };
  /** What is trained on. */
  readonly train_dataset: PointSet | ImageSet;
  /** What the model is given beside the samples, one for each, where it takes that. */
  readonly condition_dataset: ImageSet | undefined;
  /** The processes that share a step; a run on one process has the size 1. All have to make the same calls in the same order. */
  readonly ranks: Communicator;
  /** All loggers of the run as one, for what a callback measures or draws. */
  readonly loggers: RunLoggers;
  /** A copy of the parameters as they are now by name, averaged where `use_ema` is on. Between steps only. */
  weights(): Promise<Map<string, Float32Array>>;
  /**
   * Writes the model as it is now as a pipeline folder, or an autoencoder as a folder of its own, with the averaged weights
   * where `use_ema` is on. Between steps only, as in a callback that is awaited.
   *
   * @param options.complete also measures the isotropy of a diffusion model and writes a model card, as `savePipeline` does;
   * default false.
   */
  saveSnapshot(directory: string, options?: { readonly complete?: boolean | undefined }): Promise<void>;
}

/** Where a run is. */
export interface TrainerState {
  /** Steps done. */
  readonly global_step: number;
  /** Steps of the whole run. */
  readonly max_steps: number;
  /** Epochs done, with fraction. */
  readonly epoch: number;
  /** Epochs of the whole run. */
  readonly num_train_epochs: number;
  /** Over the steps since the last report; 0 before the first. */
  readonly steps_per_second: number;
}

/**
 * What is logged, by name: means over the steps since the last log, except the learning rate, which is the last step's.
 * The names are `loss`, the terms of the loss (see `LossResult`), `grad_norm` and `learning_rate`. With `mixed_precision`
 * there are also `loss_scale` and `skipped_steps`, the steps of the run so far that were skipped because their gradient
 * overflowed; both are the last step's, and the means are over the others.
 */
export interface StepMetrics {
  /** What is minimised. */
  readonly loss: number;
  /** Global norm of the gradient before clipping. */
  readonly grad_norm: number;
  /** Of the last step. */
  readonly learning_rate: number;
  /** A term of the loss, such as `base_loss` or `isotropy`. */
  readonly [term: string]: number;
}

/** Hooks into a run. Each may be async and is awaited; an error from one ends the run. */
export interface TrainerCallback {
  /** Whether it is called on every rank of a run on several, as it was given to each; default false: on rank 0 alone. */
  readonly on_all_ranks?: boolean | undefined;
  /** With several ranks, after each run of steps, on all at the same time; only of a callback `on_all_ranks`. */
  onMeeting?(state: TrainerState, run: TrainerRun): void | Promise<void>;
  /** A checkpoint was damaged when the latest was looked for; an older one, or a fresh start, takes its place. */
  onCheckpointSkipped?(skipped: { readonly dir: string; readonly error: Error }): void | Promise<void>;
  /** Before the first step of a run, new or resumed. */
  onTrainBegin?(state: TrainerState, run: TrainerRun): void | Promise<void>;
  /** Every `logging_steps` steps and after the last one. */
  onStep?(state: TrainerState, metrics: StepMetrics): void | Promise<void>;
  /** Steps between two calls of `onInterval`, at least 1; default: `onInterval` is not called. */
  readonly interval_steps?: number | undefined;
  /** After each step that is a multiple of `interval_steps`. */
  onInterval?(state: TrainerState, run: TrainerRun): void | Promise<void>;
  /** After the last step of each epoch. */
  onEpoch?(state: TrainerState, run: TrainerRun): void | Promise<void>;
  /** After a checkpoint was written. */
  onSave?(state: TrainerState, checkpointDir: string): void | Promise<void>;
  /** After the last step, or the one after which the run was interrupted; not after an error. */
  onTrainEnd?(state: TrainerState, run: TrainerRun): void | Promise<void>;
}

/** @throws {InvalidArgumentError} when a callback's `interval_steps` is no number of steps. */
export function refuseWrongIntervals(callbacks: readonly TrainerCallback[]): void {
  for (const { interval_steps } of callbacks)
    if (interval_steps !== undefined && !(Number.isSafeInteger(interval_steps) && interval_steps >= 1))
      throw new InvalidArgumentError(
        `a callback has interval_steps ${interval_steps}, but it must be a whole number of at least 1`,
      );
}

/** Calls a hook of every callback, one after another. */
export async function notifyAll(
  callbacks: readonly TrainerCallback[],
  call: (callback: TrainerCallback) => void | Promise<void> | undefined,
): Promise<void> {
  for (const callback of callbacks) await call(callback);
}
