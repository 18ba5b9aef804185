import type { ImageSet } from '../datasets/images/image-set.ts';
import type { PointSet } from '../datasets/points.ts';
import { InvalidArgumentError } from '../errors.ts';
import { planFlatBuckets, unpackBucket, viewBucket } from '../graph/flat-state.ts';
import { writeFileAtomic } from '../hub/atomic-file.ts';
import type { DiffusionLoss } from '../losses/index.ts';
import { type DiffusionModel, exportModel, initialVector } from '../models/model.ts';
import { OnnxModel, type OnnxModelOptions } from '../models/onnx-model.ts';
import { resolveDevice } from '../runtime/device.ts';
import type { TfjsModule } from '../runtime/tfjs/tf-module.ts';
import type { DDPMScheduler } from '../schedulers/ddpm.ts';
import { BatchSource } from './batch-source.ts';
import { pruneCheckpoints } from './checkpoint.ts';
import { emaDecayAt } from './ema-decay.ts';
import { refuseVarianceMismatch, samplingScheduler } from './learned-variance.ts';
import { learningRateAt } from './learning-rate.ts';
import type { MetricsLogger } from './logging/metrics-logger.ts';
import { openLoggers } from './logging/run-loggers.ts';
import { MetricsWindow } from './metrics-window.ts';
import { type BatchSupply, openBatchSupply } from './prefetched-batches.ts';
import { type RunIdentity, runIdentity } from './run-identity.ts';
import { imageSource, isImageSet, pointSource, refuseMismatch, refuseWrongLabels } from './sample-source.ts';
import { type SaveFormat, saveTrainedPipeline } from './save-pipeline.ts';
import { createTrainingEngine, refuseWrongEngine, type StepEngine } from './step-engine.ts';
import type { StepMetrics, TrainerCallback, TrainerRun, TrainerState } from './trainer-callback.ts';
import {
  type ResolvedTrainingArguments,
  resolveTrainingArguments,
  type TrainingArguments,
} from './training-arguments.ts';
import type { TrainingState } from './training-engine.ts';
import { loadStart, type Progress, saveProgress } from './training-progress.ts';

export interface TrainerOptions {
  readonly model: DiffusionModel;
  readonly args: TrainingArguments;
  readonly train_dataset: PointSet | ImageSet;
  readonly loss: DiffusionLoss;
  /** Gives the betas, `num_train_timesteps` and `prediction_type`. */
  readonly noise_scheduler: DDPMScheduler;
  readonly callbacks?: readonly TrainerCallback[];
  /**
   * What computes the steps: 'onnxruntime' (default) on `args.device`, or 'tfjs' on the backend that `tf` has. Both take
   * the same steps up to rounding, and a checkpoint of one can be continued by the other. See docs/tfjs.md.
   */
  readonly engine?: 'onnxruntime' | 'tfjs';
  /** The module of `@tensorflow/tfjs`, `tfjs-node` or `tfjs-node-gpu`, for the engine 'tfjs'. */
  readonly tf?: TfjsModule;
}

export interface TrainOptions {
  /** 'latest': the newest intact checkpoint in `output_dir`, or a fresh start where there is none; or its path. */
  readonly resume_from_checkpoint?: string;
  /** When it aborts, the run finishes its step, saves a checkpoint and returns. */
  readonly signal?: AbortSignal;
}

export interface TrainOutput {
  readonly global_step: number;
  /** The last logged metrics; undefined when no step was run. */
  readonly metrics: StepMetrics | undefined;
  readonly interrupted: boolean;
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
  private readonly batches: BatchSource;
  private readonly identity: RunIdentity;
  private state: TrainingState;
  private step = 0;

  /** @throws {InvalidArgumentError} when arguments are wrong, or model, data and scheduler do not fit together. */
  constructor(private readonly options: TrainerOptions) {
    const { model, train_dataset, loss, noise_scheduler } = options;
    this.args = resolveTrainingArguments(options.args);
    refuseWrongEngine(options, this.args.device);
    const source = isImageSet(train_dataset)
      ? imageSource(train_dataset, this.args)
      : pointSource(train_dataset);
    refuseVarianceMismatch(model, loss, noise_scheduler);
    refuseMismatch(model, source);
    const dropout = this.args.class_dropout_prob;
    refuseWrongLabels(model, source, dropout);
    this.batches = new BatchSource(
      source,
      this.args.per_device_train_batch_size * this.args.gradient_accumulation_steps,
      noise_scheduler.config.num_train_timesteps,
      this.args.seed,
      model.classCount === undefined ? undefined : { classCount: model.classCount, dropout },
    );
    this.maxSteps =
      this.args.max_steps > 0 ? this.args.max_steps : this.args.num_train_epochs * this.batches.stepsPerEpoch;
    this.identity = runIdentity({
      model: model.config,
      loss: loss.config,
      noiseScheduler: noise_scheduler.toConfig(),
      dataset: source.fingerprint,
      args: this.args,
    });
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
   * @param file a model with the inputs `sample` and `timestep`; it may keep its weights in files beside it.
   * @param options.onnx which initializers are trained, and the shape of a sample; default that of the data set.
   * @throws {OnnxFormatError} when the file cannot be read; what is not supported is listed all in one error.
   * @throws {GradientError} that lists all ops without a gradient rule.
   * @example
   * const trainer = await Trainer.fromOnnx('./unet.onnx', { args, train_dataset, loss, noise_scheduler });
   */
  static async fromOnnx(
    file: string,
    { onnx, ...options }: Omit<TrainerOptions, 'model'> & { onnx?: OnnxModelOptions },
  ): Promise<Trainer> {
    const { train_dataset: data } = options;
    const sample_shape = isImageSet(data) ? [data.channels, data.height, data.width] : [data.dims];
    return new Trainer({ ...options, model: await OnnxModel.fromFile(file, { sample_shape, ...onnx }) });
  }

  /** Writes the trained model as one ONNX file, atomically; with `use_ema` and `ema`, the averaged weights. */
  async exportOnnx(file: string, { ema = this.args.use_ema }: { ema?: boolean } = {}): Promise<void> {
    await writeFileAtomic(
      file,
      exportModel(this.options.model, viewBucket(this.vector(ema), this.wholeBucket())),
    );
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
    const { args } = this;
    const supply = openBatchSupply(this.batches);
    try {
      const { engine, start } = await this.startEngine(supply, resume_from_checkpoint);
      this.step = start?.step ?? 0;
      const loggers = openLoggers(args.output_dir, args.report_to, start?.step);
      try {
        return await this.loop(engine, loggers, start, signal);
      } finally {
        this.state = await engine.state();
        await loggers.close();
        await engine.release();
      }
    } finally {
      await supply.close();
    }
  }

  /** The trained parameters by name, or their moving average. @throws {InvalidArgumentError} without `use_ema`. */
  weights({ ema = false }: { ema?: boolean } = {}): Map<string, Float32Array> {
    return unpackBucket(this.vector(ema), this.wholeBucket());
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
    {
      metrics,
      license,
      ...format
    }: SaveFormat & { metrics?: Readonly<Record<string, number>>; license?: string } = {},
  ): Promise<void> {
    const { model, noise_scheduler, train_dataset, loss } = this.options;
    const trained = {
      model,
      weights: viewBucket(this.vector(false), this.wholeBucket()),
      averagedWeights: this.args.use_ema ? viewBucket(this.vector(true), this.wholeBucket()) : undefined,
      scheduler: samplingScheduler(model, noise_scheduler),
      scaler: isImageSet(train_dataset) ? undefined : train_dataset.scaler,
      card: {
        task: isImageSet(train_dataset) ? 'unconditional-image-generation' : 'unconditional-point-generation',
        className: model.config._class_name,
        averaged: this.args.use_ema,
        dataset: train_dataset.name,
        steps: this.step,
        loss: loss.config,
        settings: this.identity.arguments,
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
    supply: BatchSupply,
    resume: string | undefined,
  ): Promise<{ engine: StepEngine; start: Omit<Progress, 'state'> | undefined }> {
    const { args } = this;
    const { tf } = this.options;
    const compute = tf ? { tf } : { device: await resolveDevice(args.device) };
    const progress = await loadStart(args.output_dir, resume, this.identity, (skipped) =>
      this.notify((callback) => callback.onCheckpointSkipped?.(skipped)),
    );
    const engine = await createTrainingEngine(
      this.graphSettings(),
      { ...compute, accumulationSteps: args.gradient_accumulation_steps },
      progress?.state ?? this.state,
      supply,
      this.schedules(),
    );
    this.state = new Map();
    return { engine, start: progress && { step: progress.step, window: progress.window } };
  }

  private async loop(
    engine: StepEngine,
    loggers: MetricsLogger,
    start: Omit<Progress, 'state'> | undefined,
    signal?: AbortSignal,
  ): Promise<TrainOutput> {
    const { args, maxSteps } = this;
    const window = new MetricsWindow();
    if (start) window.restore(start.window);
    let metrics: StepMetrics | undefined;
    let reported = { step: this.step, time: performance.now() };
    let saved = start?.step ?? -1;
    const save = async () => {
      const directory = await saveProgress(
        args.output_dir,
        { step: this.step, state: await engine.state(), window: window.toJSON() },
        this.identity,
      );
      await pruneCheckpoints(args.output_dir, args.save_total_limit);
      saved = this.step;
      await this.notify((callback) => callback.onSave?.(this.progress(0), directory));
    };

    const run = this.runOf(engine);
    await this.notify((callback) => callback.onTrainBegin?.(this.progress(0), run));
    while (this.step < maxSteps && !signal?.aborted) {
      const count = Math.min(this.stepsUntilNextEvent(), engine.maxStepsPerRun);
      for (const row of await engine.run(this.step, count)) window.add(row);
      this.step += count;
      if (this.step % args.logging_steps === 0 || this.step === maxSteps) {
        const now = performance.now();
        const stepsPerSecond = ((this.step - reported.step) * 1000) / (now - reported.time);
        reported = { step: this.step, time: now };
        metrics = window.means(this.schedules().learningRate(this.step));
        window.clear();
        const current = metrics;
        loggers.log(this.step, {
          ...current,
          epoch: this.progress(0).epoch,
          steps_per_second: stepsPerSecond,
        });
        await this.notify((callback) => callback.onStep?.(this.progress(stepsPerSecond), current));
      }
      if (this.step % this.batches.stepsPerEpoch === 0)
        await this.notify((callback) => callback.onEpoch?.(this.progress(0), run));
      if (args.save_steps > 0 && this.step % args.save_steps === 0) await save();
    }
    if (saved !== this.step) await save();
    await this.notify((callback) => callback.onTrainEnd?.(this.progress(0), run));
    return { global_step: this.step, metrics, interrupted: this.step < maxSteps };
  }

  private runOf(engine: StepEngine): TrainerRun {
    const { model, noise_scheduler: scheduler, train_dataset } = this.options;
    return {
      output_dir: this.args.output_dir,
      train_dataset,
      saveSnapshot: async (directory) => {
        const state = await engine.state();
        const vector = state.get(this.args.use_ema ? 'ema' : 'parameters') ?? new Float32Array();
        const weights = unpackBucket(vector, this.wholeBucket());
        const scaler = isImageSet(train_dataset) ? undefined : train_dataset.scaler;
        await saveTrainedPipeline(directory, { model, weights, scheduler, scaler });
      },
    };
  }

  /** Runs end where something has to happen: a log, the end of an epoch, a checkpoint, the end. */
  private stepsUntilNextEvent(): number {
    const { logging_steps, save_steps } = this.args;
    const untilMultiple = (interval: number) =>
      interval > 0 ? interval - (this.step % interval) : Number.POSITIVE_INFINITY;
    return Math.min(
      untilMultiple(logging_steps),
      untilMultiple(this.batches.stepsPerEpoch),
      untilMultiple(save_steps),
      this.maxSteps - this.step,
    );
  }

  private progress(stepsPerSecond: number): TrainerState {
    const { stepsPerEpoch } = this.batches;
    return {
      global_step: this.step,
      max_steps: this.maxSteps,
      epoch: this.step / stepsPerEpoch,
      num_train_epochs: Math.ceil(this.maxSteps / stepsPerEpoch),
      steps_per_second: stepsPerSecond,
    };
  }

  private async notify(call: (callback: TrainerCallback) => void | Promise<void> | undefined): Promise<void> {
    for (const callback of this.options.callbacks ?? []) await call(callback);
  }

  private graphSettings() {
    const { model, loss, noise_scheduler } = this.options;
    const { args } = this;
    return {
      model,
      loss,
      predictionType: noise_scheduler.config.prediction_type,
      betas: noise_scheduler.betas,
      alphasCumprod: noise_scheduler.alphasCumprod,
      batchSize: args.per_device_train_batch_size,
      adam: {
        beta1: args.adam_beta1,
        beta2: args.adam_beta2,
        epsilon: args.adam_epsilon,
        weight_decay: args.weight_decay,
      },
      maxGradNorm: args.max_grad_norm,
      ema: args.use_ema,
      gradientCheckpointing: args.gradient_checkpointing,
    };
  }

  private schedules() {
    const { args, maxSteps } = this;
    return {
      learningRate: (step: number) => learningRateAt(step - 1, { ...args, max_steps: maxSteps }),
      emaDecay: (step: number) =>
        emaDecayAt(step, {
          use_ema_warmup: true,
          inv_gamma: args.ema_inv_gamma,
          power: args.ema_power,
          max_decay: args.ema_max_decay,
        }),
    };
  }

  private vector(ema: boolean): Float32Array {
    if (ema && !this.args.use_ema)
      throw new InvalidArgumentError('there is no moving average: train with use_ema: true');
    const vector = this.state.get(ema ? 'ema' : 'parameters');
    if (!vector)
      throw new InvalidArgumentError(
        'the weights are not to be had while training is under way: save them by saveSnapshot of the run that callbacks are given',
      );
    return vector;
  }

  private wholeBucket() {
    const [bucket] = planFlatBuckets(this.options.model.parameters);
    if (!bucket)
      throw new InvalidArgumentError(`the model ${this.options.model.config._class_name} has no parameters`);
    return bucket;
  }
}
