import { type ImageSet, labelledImages } from '../datasets/images/image-set.ts';
import type { PointSet } from '../datasets/points/points.ts';
import { InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import type { DiffusionLoss } from '../losses/index.ts';
import { type DiffusionModel, exportModel, initialVector, learnsVariance, namedViews } from '../models/model.ts';
import { OnnxModel, type OnnxModelOptions } from '../models/onnx/model.ts';
import { resolveDevice } from '../runtime/device.ts';
import type { TfjsModule } from '../runtime/tfjs/tf-module.ts';
import { DDPMScheduler } from '../schedulers/ddpm.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import { type RunIdentity, runIdentity } from './checkpoint/run-identity.ts';
import { loadStart } from './checkpoint/training-progress.ts';
import { refuseMismatch, refuseVarianceMismatch, refuseWrongEngine, refuseWrongLabels } from './checks.ts';
import { BatchStream } from './data/batch-stream.ts';
import { type Batches, openBatches } from './data/prefetched-batches.ts';
import { imageSamples, isImageSet, pointSamples } from './data/samples.ts';
import { Engine } from './engines/engine.ts';
import { openLoggers } from './logging/run-loggers.ts';
import { type SaveFormat, saveTrainedPipeline } from './save-pipeline.ts';
import { stepSchedule, stepSettings } from './step/settings.ts';
import type { TrainingState } from './step/update.ts';
import { notifyAll, type TrainerCallback, type TrainerRun } from './trainer-callback.ts';
import {
  type ResolvedTrainingArguments,
  resolveTrainingArguments,
  type TrainingArguments,
} from './training-arguments.ts';
import { type LoopStart, TrainingLoop, type TrainOutput } from './training-loop.ts';

export interface TrainerOptions {
  /** The model to train; its parameters start from their `init`, drawn by `args.seed`. */
  readonly model: DiffusionModel;
  /** Hugging Face's arguments: how long, how large a step, where, and what is logged and saved. */
  readonly args: TrainingArguments;
  /** The samples, as `loadPoints` and `loadImages` return them; their shape must be the model's `sampleShape`. */
  readonly train_dataset: PointSet | ImageSet;
  /** What is minimised, such as `isoLoss({ lambda: 0.1 })`. */
  readonly loss: DiffusionLoss;
  /** Gives the betas, `num_train_timesteps` and `prediction_type`. */
  readonly noise_scheduler: Scheduler;
  /** Hooks into the run, called in this order; default none. */
  readonly callbacks?: readonly TrainerCallback[] | undefined;
  /**
   * What computes the steps: 'onnxruntime' (default) on `args.device`, or 'tfjs' on the backend that `tf` has. Both take
   * the same steps up to rounding, and a checkpoint of one can be continued by the other. See docs/tfjs.md.
   */
  readonly engine?: 'onnxruntime' | 'tfjs' | undefined;
  /** The module of `@tensorflow/tfjs`, `tfjs-node` or `tfjs-node-gpu`, for the engine 'tfjs'; default none. */
  readonly tf?: TfjsModule | undefined;
}

export interface TrainOptions {
  /**
   * 'latest': the newest intact checkpoint in `output_dir`, or a fresh start where there is none; or the path of one.
   * Default: a fresh start.
   */
  readonly resume_from_checkpoint?: string | undefined;
  /** When it aborts, the run finishes its step, saves a checkpoint and returns. Default: it runs to its end. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Trains a diffusion model in the manner of Hugging Face's Trainer. Everything that is random follows from `seed` and
 * the step, so a run that was killed and resumed ends with the same bits as one that was not.
 *
 * @example
 * const trainer = new Trainer({
 *   model: new ConditionalDense(),
 *   args: { output_dir: './runs/swiss-roll', num_train_epochs: 100 },
 *   train_dataset: await loadPoints('swiss-roll'),
 *   loss: isoLoss({ lambda: 0.1 }),
 *   noise_scheduler: new DDPMScheduler(),
 * });
 * await trainer.train();
 * await trainer.savePipeline('./runs/swiss-roll/pipeline');
 */
export class Trainer {
  readonly args: ResolvedTrainingArguments;
  /** Steps the whole run takes. */
  readonly maxSteps: number;
  private readonly batches: BatchStream;
  private readonly identity: RunIdentity;
  private state: TrainingState;
  private step = 0;
  private readonly options: TrainerOptions;

  /** @throws {InvalidArgumentError} when arguments are wrong, or model, data and scheduler do not fit together. */
  constructor(options: TrainerOptions) {
    const { model, loss, noise_scheduler } = options;
    const train_dataset = trainingSet(options);
    this.options = { ...options, train_dataset };
    this.args = resolveTrainingArguments(options.args);
    refuseWrongEngine(options, this.args.device);
    const samples = isImageSet(train_dataset) ? imageSamples(train_dataset, this.args) : pointSamples(train_dataset);
    refuseVarianceMismatch(model, loss, noise_scheduler);
    refuseMismatch(model, samples);
    const dropout = this.args.class_dropout_prob;
    refuseWrongLabels(model, samples, dropout);
    this.batches = new BatchStream(samples, {
      batchSize: this.args.per_device_train_batch_size * this.args.gradient_accumulation_steps,
      trainTimesteps: noise_scheduler.config.num_train_timesteps,
      seed: this.args.seed,
      classes: model.classCount === undefined ? undefined : { classCount: model.classCount, dropout },
    });
    this.maxSteps =
      this.args.max_steps > 0 ? this.args.max_steps : this.args.num_train_epochs * this.batches.stepsPerEpoch;
    const parts = { model: model.config, loss: loss.config, noise_scheduler: noise_scheduler.toConfig() };
    this.identity = runIdentity({ ...parts, dataset_sha256: samples.fingerprint }, this.args);
    const parameters = initialVector(model, this.args.seed);
    this.state = new Map([
      ['parameters', parameters],
      ['ema', parameters],
    ]);
  }

  /**
   * A trainer that fine-tunes an ONNX file, as torch.onnx.export, optimum or this package write it: its initializers are
   * the parameters (see `OnnxModel`). `savePipeline` and `exportOnnx` write the same file back with the trained ones.
   *
   * @param file a model that takes a sample and a timestep; it may keep its weights in files beside it.
   * @param options.onnx which initializers are trained, the names of the inputs, and the shape of a sample; default: the
   * shape in the data set.
   * @throws {OnnxFormatError} when the file cannot be read; what is not supported is listed all in one error.
   * @throws {GradientError} that lists all ops without a gradient rule.
   * @example
   * const trainer = await Trainer.fromOnnx('./unet.onnx', { args, train_dataset, loss, noise_scheduler });
   */
  static async fromOnnx(
    file: string,
    { onnx, ...options }: Omit<TrainerOptions, 'model'> & { onnx?: OnnxModelOptions | undefined },
  ): Promise<Trainer> {
    const { train_dataset: data } = options;
    const sample_shape = isImageSet(data) ? [data.channels, data.height, data.width] : [data.dims];
    return new Trainer({ ...options, model: await OnnxModel.fromFile(file, { sample_shape, ...onnx }) });
  }

  /** Writes the trained model as one ONNX file, atomically; with `use_ema` and `ema`, the averaged weights. */
  async exportOnnx(file: string, { ema = this.args.use_ema }: { ema?: boolean } = {}): Promise<void> {
    const { model } = this.options;
    await writeFileAtomic(file, exportModel(model, namedViews(model.parameters, this.vector(ema))));
  }

  /**
   * Runs to `maxSteps`. Checkpoints are written every `save_steps`, at the end and when interrupted.
   *
   * @throws {NonFiniteLossError} when the loss diverges; the last checkpoint stays.
   * @throws {CheckpointError} when the checkpoint to resume from is damaged or of another run.
   * @throws {DeviceError} when the device cannot be used, or tfjs's backend lacks a kernel.
   * @throws {GraphError} that lists all that the engine 'tfjs' cannot compute.
   */
  async train({ resume_from_checkpoint, signal }: TrainOptions = {}): Promise<TrainOutput> {
    const { args, identity, maxSteps } = this;
    const { stepsPerEpoch } = this.batches;
    const { callbacks = [] } = this.options;
    const batches = openBatches(this.batches);
    try {
      const { engine, start } = await this.startEngine(batches, resume_from_checkpoint);
      const loggers = openLoggers(args.output_dir, args.report_to, start?.step);
      const loop = new TrainingLoop(engine, loggers, { args, identity, callbacks, maxSteps, stepsPerEpoch }, start);
      try {
        return await loop.run(this.runOf(engine), signal);
      } finally {
        this.step = loop.step;
        this.state = await engine.state();
        await loggers.close();
        await engine.release();
      }
    } finally {
      await batches.close();
    }
  }

  /** The trained parameters by name, or their moving average. @throws {InvalidArgumentError} without `use_ema`. */
  weights({ ema = false }: { ema?: boolean } = {}): Map<string, Float32Array> {
    return namedViews(this.options.model.parameters, this.vector(ema).slice());
  }

  /**
   * Writes the trained model as a pipeline folder (diffusers' layout, see `savePipelineFolder`); with `use_ema`, the
   * averaged weights lie in `unet_ema` beside the raw ones in `unet`, and `pipeline()` takes them. An existing
   * pipeline folder is replaced once the new one is complete. `README.md` is a model card for the Hub with the training
   * settings and `metrics`.
   *
   * @param options.metrics results to list, such as those of `precisionRecallDensityCoverage`.
   * @param options.license the licence's name on the Hub, such as 'apache-2.0'.
   * @param options.dtype, options.variant, options.layout see `SaveFormat`.
   */
  async savePipeline(
    directory: string,
    { metrics, license, ...format }: SaveFormat & { metrics?: Readonly<Record<string, number>>; license?: string } = {},
  ): Promise<void> {
    const { model, train_dataset, loss } = this.options;
    const trained = {
      ...this.parts,
      weights: namedViews(model.parameters, this.vector(false)),
      averagedWeights: this.args.use_ema ? namedViews(model.parameters, this.vector(true)) : undefined,
      card: {
        task: isImageSet(train_dataset) ? 'unconditional-image-generation' : 'unconditional-point-generation',
        className: model.config._class_name,
        averaged: this.args.use_ema,
        dataset: train_dataset.name,
        steps: this.step,
        loss: loss.config,
        settings: this.identity.arguments,
        classNames: model.classCount !== undefined && isImageSet(train_dataset) ? train_dataset.classNames : undefined,
        metrics,
        license,
      },
    } as const;
    await saveTrainedPipeline(directory, trained, format);
  }

  /**
   * The engine in the state it starts from, and where that is in the run. From here on the engine alone holds the
   * state: for a large model a second copy would be most of what a step needs.
   */
  private async startEngine(
    batches: Batches,
    resume: string | undefined,
  ): Promise<{ engine: Engine; start: LoopStart | undefined }> {
    const { args } = this;
    const { tf, callbacks = [] } = this.options;
    const compute = tf ? { tf } : { device: await resolveDevice(args.device) };
    const progress = await loadStart(args.output_dir, resume, this.identity, (skipped) =>
      notifyAll(callbacks, (callback) => callback.onCheckpointSkipped?.(skipped)),
    );
    const settings = stepSettings(this.options, args);
    const schedule = stepSchedule(args, this.maxSteps);
    const engine = await Engine.create(settings, compute, progress?.state ?? this.state, batches, schedule);
    this.state = new Map();
    return { engine, start: progress && { step: progress.step, window: progress.window } };
  }

  private runOf(engine: Engine): TrainerRun {
    const { model, train_dataset } = this.options;
    return {
      output_dir: this.args.output_dir,
      train_dataset,
      saveSnapshot: async (directory) => {
        const kind = this.args.use_ema ? 'ema' : 'parameters';
        const vector = await engine.withState(async (state) => new Float32Array(state.get(kind) ?? []));
        await saveTrainedPipeline(directory, { ...this.parts, weights: namedViews(model.parameters, vector) });
      },
    };
  }

  /** What a pipeline folder holds beside the weights. The scheduler is DDPM's `learned_range` for a learned variance. */
  private get parts() {
    const { model, noise_scheduler, train_dataset } = this.options;
    const scheduler =
      learnsVariance(model) && noise_scheduler instanceof DDPMScheduler
        ? new DDPMScheduler({ ...noise_scheduler.config, variance_type: 'learned_range' })
        : noise_scheduler;
    return { model, scheduler, points: isImageSet(train_dataset) ? undefined : train_dataset };
  }

  private vector(ema: boolean): Float32Array {
    if (ema && !this.args.use_ema)
      throw new InvalidArgumentError('there is no moving average: train with use_ema: true');
    const vector = this.state.get(ema ? 'ema' : 'parameters');
    if (!vector)
      throw new InvalidArgumentError(
        'weights are unavailable during training: call run.saveSnapshot() from a callback',
      );
    return vector;
  }
}

/** What a model is trained on: one with classes only on images that have one. */
function trainingSet({ model, train_dataset: data }: TrainerOptions): PointSet | ImageSet {
  if (model.classCount === undefined || !isImageSet(data)) return data;
  const labelled = labelledImages(data);
  if (labelled.count < data.count)
    process.emitWarning(
      `${data.count - labelled.count} of ${data.count} images of '${data.name}' have no class: the model with classes is not trained on them`,
    );
  return labelled;
}
