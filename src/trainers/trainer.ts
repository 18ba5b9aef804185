import { world } from '#distributed/world';
import { withFolderLock } from '#files/folder-lock';
import { hasTerminal, warn } from '#platform/system';
import { setTf32, usesTf32 } from '#runtime/tf32';
import { receivesSignals, withDeferredInterrupt } from '#terminal/interrupt';
import { requireObject, requireText } from '../arguments.ts';
import type { Communicator } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import type { FolderLock } from '../files/folder-lock.ts';
import { elementCount } from '../graph/types.ts';
import type { CardResults } from '../hub/card-results.ts';
import type { IsotropyFile } from '../hub/pipeline-folder.ts';
import { exportModel, initialVector, learnsVariance, namedViews, refuseFloat32Only } from '../models/model.ts';
import type { OnnxModelOptions } from '../models/onnx/model.ts';
import { type ConcreteDevice, resolveDevice } from '../runtime/device.ts';
import { DDPMScheduler } from '../schedulers/ddpm.ts';
import { RunCheckpoints } from './checkpoint/run-checkpoints.ts';
import { decidingArguments, flatSettings, onCuda, type RunIdentity, runIdentity } from './checkpoint/run-identity.ts';
import { type Checkpoints, openForAll } from './checkpoint/shared-start.ts';
import {
  refuseChangedConfig,
  refuseMismatch,
  refuseTimesteps,
  refuseUnevenTree,
  refuseVarianceMismatch,
  refuseWrongEngine,
  refuseWrongLabels,
  refuseWrongTypes,
} from './checks.ts';
import { BatchStream } from './data/batch-stream.ts';
import { type Batches, openBatches } from './data/prefetched-batches.ts';
import { imageSamples, isImageSet, pointSamples } from './data/samples.ts';
import { Engine } from './engines/engine.ts';
import { measureIsotropy, SquaredNoiseSession, trainedLambda } from './isotropy.ts';
import { changesWhileRunning, LiveSettings, type TrainingChanges } from './live-settings.ts';
import type { LoggedRun, RunLoggers, RunOutcome } from './logging/run-logger.ts';
import { openLoggers } from './logging/run-loggers.ts';
import { progressLine } from './progress-line.ts';
import { Ranks } from './ranks.ts';
import { readPicture, refuseNonFiniteWeights, type SaveFormat, saveTrainedPipeline } from './save-pipeline.ts';
import { LOSS_SCALER_LENGTH } from './step/loss-scaler.ts';
import { stepSchedule, stepSettings } from './step/settings.ts';
import { STATE_KINDS, type StateKind, type TrainingState } from './step/update.ts';
import { notifyAll, type TrainerRun } from './trainer-callback.ts';
import { ownCopy, type TrainerOptions, trainingSet } from './trainer-options.ts';
import { type ResolvedTrainingArguments, resolveTrainingArguments } from './training-arguments.ts';
import { TrainingLoop, type TrainOutput } from './training-loop.ts';

export interface TrainOptions {
  /**
   * 'latest': the intact checkpoint in `output_dir` that was written last, or a fresh start where there is none; or the
   * path of one. Learning rate and schedule, clipping, length, device, logging and saving may differ from the
   * checkpoint's run; other differences are refused. Default: a fresh start, which keeps what other runs saved there.
   */
  readonly resume_from_checkpoint?: string | undefined;
  /** When it aborts, the run finishes its step, saves a checkpoint and returns. Default: it runs to its end. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Saves a checkpoint on the first Ctrl-C (SIGINT) or SIGTERM, and then lets the signal end the process, unless the
   * program listens for it too: then `train` returns with `interrupted`. The second one exits at once. Only in the main
   * thread. Default: true where no `signal` is given; false leaves signals alone.
   */
  readonly handle_signals?: boolean | undefined;
}

/** For ranks that do not write. */
const NO_LOCK: FolderLock = { refuseIfLost: async () => undefined };

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
  private identity: RunIdentity;
  private readonly options: TrainerOptions;
  private state: TrainingState;
  private step = 0;
  /** While training runs. */
  private live: LiveSettings | undefined;
  /** Those of the last run, which know what was changed. */
  private checkpoints: Checkpoints | undefined;
  /** The processes that share a step. */
  private readonly communicator: Communicator = world();

  /**
   * Options are read here: what the caller changes later in them or in the noise scheduler has no effect.
   *
   * @throws {InvalidArgumentError} when arguments are wrong, or model, data and scheduler do not fit together.
   * @throws {DistributedError} when mpirun or srun started the process, and MPI cannot be used.
   */
  constructor(options: TrainerOptions) {
    refuseWrongTypes(options);
    const own = ownCopy(options);
    this.options = { ...own, train_dataset: trainingSet(own) };
    const { model, train_dataset, loss, noise_scheduler } = this.options;
    this.args = Object.freeze(resolveTrainingArguments(this.options.args));
    refuseWrongEngine(options, this.args);
    const samples = isImageSet(train_dataset) ? imageSamples(train_dataset, this.args) : pointSamples(train_dataset);
    refuseVarianceMismatch(model, loss, noise_scheduler);
    if (this.args.mixed_precision === 'fp16') refuseFloat32Only(model, "mixed_precision 'fp16'");
    refuseMismatch(model, samples);
    refuseTimesteps(model, noise_scheduler);
    const dropout = this.args.class_dropout_prob;
    refuseWrongLabels(model, samples, dropout);
    const { size, rank } = this.communicator;
    refuseUnevenTree(this.args, size);
    const count = this.args.per_device_train_batch_size * this.args.gradient_accumulation_steps;
    this.batches = new BatchStream(samples, {
      batchSize: count * size,
      own: { first: rank * count, count },
      trainTimesteps: noise_scheduler.config.num_train_timesteps,
      seed: this.args.seed,
      classes: model.classCount === undefined ? undefined : { classCount: model.classCount, dropout },
    });
    this.liveSettings();
    this.maxSteps =
      this.args.max_steps > 0 ? this.args.max_steps : this.args.num_train_epochs * this.batches.stepsPerEpoch;
    const parts = { model: model.config, loss: loss.config, noise_scheduler: noise_scheduler.toConfig() };
    this.identity = runIdentity({ ...parts, dataset_sha256: samples.fingerprint }, this.args, this.maxSteps, size);
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
    given: Omit<TrainerOptions, 'model'> & { onnx?: OnnxModelOptions | undefined },
  ): Promise<Trainer> {
    requireText('the ONNX file', file);
    requireObject('the options of fromOnnx', given);
    requireObject('train_dataset', given.train_dataset);
    requireObject('noise_scheduler', given.noise_scheduler);
    const { onnx, ...options } = given;
    const own = ownCopy(options);
    const { train_dataset: data } = own;
    const sample_shape = isImageSet(data) ? [data.channels, data.height, data.width] : [data.dims];
    const { OnnxModel } = await import('../models/onnx/model.ts');
    return new Trainer({ ...own, model: await OnnxModel.fromFile(file, { sample_shape, ...onnx }) });
  }

  /**
   * Writes the trained model as one ONNX file, atomically; with `use_ema` and `ema`, the averaged weights.
   *
   * @throws {NonFiniteWeightsError} when a weight is NaN or infinite. Nothing is written then.
   */
  async exportOnnx(file: string, { ema = this.args.use_ema }: { ema?: boolean } = {}): Promise<void> {
    requireText('the ONNX file', file);
    if (this.communicator.rank > 0) return;
    const { model } = this.options;
    const weights = namedViews(model.parameters, this.vector(ema));
    refuseNonFiniteWeights(weights);
    await writeFileAtomic(file, exportModel(model, weights));
  }

  /**
   * Runs to `maxSteps`. Checkpoints are written every `save_steps`, at the end and when interrupted. `output_dir` is
   * locked meanwhile. Checkpoints and logs of other runs there are kept: where one has the name, this run's are called
   * `checkpoint-<step>-2`, and the other run's log becomes `metrics-2.jsonl`.
   *
   * @throws {InvalidArgumentError} when another process trains into `output_dir`; names its host and its process id.
   * @throws {NonFiniteLossError} when the loss or the weights diverge; the message names the checkpoint to resume from.
   * @throws {CheckpointError} when the checkpoint to resume from is damaged or of another run.
   * @throws {DeviceError} when the device cannot be used, tfjs's backend lacks a kernel, or `tf32` comes too late.
   * @throws {GraphError} that lists all that the engine 'tfjs' cannot compute.
   */
  async train(options: TrainOptions = {}): Promise<TrainOutput> {
    requireObject('the options of train()', options);
    const { resume_from_checkpoint, signal, handle_signals = signal === undefined } = options;
    const run = (ended: AbortSignal | undefined) => this.trainOnRanks(resume_from_checkpoint, ended);
    if (!handle_signals || !receivesSignals) return run(signal);
    const notice = this.communicator.rank > 0 ? '' : 'interrupted: saving a checkpoint (Ctrl-C again exits at once)';
    return withDeferredInterrupt(notice, (interrupt) => run(signal ? AbortSignal.any([interrupt, signal]) : interrupt));
  }

  /**
   * Changes settings while `train()` runs, without a new session: from the next steps that begin, at most 100 steps on. The
   * log has a line for it, and checkpoints record it: a run that is resumed goes on with what was in force.
   *
   * @throws {InvalidArgumentError} when no training runs, a value is out of range, or a scalar of the loss is a constant
   * because `changeable_scalars` does not name it.
   * @example
   * trainer.change({ learning_rate: 5e-4, loss: { lambda: 0.2 } });
   */
  change(changes: TrainingChanges): void {
    if (!this.live)
      throw new InvalidArgumentError(
        'change() works while train() runs: before that, give learning_rate and the loss to the Trainer',
      );
    this.live.request(changes);
  }

  /** Rank 0 alone touches the folder. */
  private async trainOnRanks(resume: string | undefined, signal: AbortSignal | undefined): Promise<TrainOutput> {
    const ranks = new Ranks(this.communicator);
    try {
      await ranks.refuseOtherArguments(this.identity);
      if (!ranks.isFirst) return await this.trainLocked(ranks, NO_LOCK, resume, signal);
      return await withFolderLock(this.args.output_dir, 'choose another output_dir', (lock) =>
        this.trainLocked(ranks, lock, resume, signal),
      );
    } catch (error) {
      await ranks.fail();
      throw error;
    }
  }

  private async trainLocked(
    ranks: Ranks,
    lock: FolderLock,
    resume: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<TrainOutput> {
    const { args, maxSteps } = this;
    const { stepsPerEpoch } = this.batches;
    const { disable_tqdm = !hasTerminal() } = args;
    const line = disable_tqdm || !ranks.isFirst ? undefined : progressLine();
    const own: Pick<TrainerOptions, 'callbacks' | 'loggers'> = ranks.isFirst ? this.options : {};
    const callbacks = [...(line ? [line] : []), ...(own.callbacks ?? [])];
    const batches = openBatches(this.batches);
    try {
      const live = this.liveSettings();
      const { engine, checkpoints, start } = await this.startEngine(ranks, lock, batches, resume, live);
      const { formerLog } = checkpoints;
      const targets = ranks.isFirst ? args.report_to : [];
      const loggers = await openLoggers(args.output_dir, targets, own.loggers ?? [], formerLog, start?.step);
      const settings = { args, callbacks, maxSteps, stepsPerEpoch, live, ranks };
      const loop = new TrainingLoop(engine, checkpoints, loggers, settings, start);
      let outcome: RunOutcome = 'failed';
      try {
        await loggers.begin(this.loggedRun(start?.step ?? 0));
        if (start && start.changes.length > 0) await loggers.note(start.step + 1, start.changes);
        this.live = live;
        this.checkpoints = checkpoints;
        const result = await loop.run(this.runOf(engine, loop, loggers), signal);
        outcome = result.interrupted ? 'interrupted' : 'completed';
        return result;
      } finally {
        this.live = undefined;
        this.step = loop.step;
        this.state = await engine.state();
        line?.stop();
        await loggers.close(outcome);
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
   * @param options.metric_args what they were computed with, such as the extractor, to list beside them.
   * @param options.license the licence's name on the Hub, such as 'apache-2.0'.
   * @param options.picture a PNG file of samples, which is copied as `samples.png` and shown on the card.
   * @throws {FileFormatError} when the picture is not a PNG file.
   * @throws {NonFiniteWeightsError} when a weight is NaN or infinite. Nothing is written then.
   * @param options.dtype, options.onnx_dtype, options.variant, options.layout see `SaveFormat`.
   */
  async savePipeline(
    directory: string,
    options: SaveFormat & {
      metrics?: CardResults['metrics'] | undefined;
      metric_args?: CardResults['args'];
      license?: string | undefined;
      picture?: string | undefined;
    } = {},
  ): Promise<void> {
    requireText('the folder of the pipeline', directory);
    requireObject('the options of savePipeline()', options);
    if (this.communicator.rank > 0) return;
    const { metrics, metric_args: args, license, picture, ...format } = options;
    const { model } = this.options;
    const trained = {
      ...this.parts,
      weights: namedViews(model.parameters, this.vector(false)),
      averagedWeights: this.args.use_ema ? namedViews(model.parameters, this.vector(true)) : undefined,
      card: {
        ...this.cardFacts(this.step),
        averaged: this.args.use_ema,
        results: metrics && { metrics, args },
        license,
      },
      picture: picture === undefined ? undefined : await readPicture(picture),
    };
    await this.measured((measure) => saveTrainedPipeline(directory, { ...trained, measure }, format));
  }

  /** What a model card says of the training. */
  private cardFacts(steps: number) {
    const { model, train_dataset, loss } = this.options;
    return {
      task: isImageSet(train_dataset) ? 'unconditional-image-generation' : 'unconditional-point-generation',
      className: model.config._class_name,
      dataset: train_dataset.name,
      hubId: train_dataset.hubId,
      steps,
      loss: loss.config,
      settings: { ...decidingArguments(this.identity), ...changesWhileRunning(this.checkpoints?.recordedChanges) },
      classNames: model.classCount !== undefined && isImageSet(train_dataset) ? train_dataset.classNames : undefined,
    } as const;
  }

  /** Gives `save` what measures the isotropy of weights. */
  private async measured(
    save: (measure: (weights: ReadonlyMap<string, Float32Array>) => Promise<IsotropyFile>) => Promise<void>,
  ): Promise<void> {
    let session: SquaredNoiseSession | undefined;
    try {
      await save(async (weights) => {
        session ??= await this.squaredNoiseSession();
        return this.isotropyOf(session, weights);
      });
    } finally {
      await session?.release();
    }
  }

  private async squaredNoiseSession(): Promise<SquaredNoiseSession> {
    const { args, options } = this;
    const device = options.tf ? 'cpu' : await this.device();
    return SquaredNoiseSession.create(stepSettings(options, args), device);
  }

  /** The isotropy with these weights, on noise that the training has not seen. */
  private async isotropyOf(
    session: SquaredNoiseSession,
    weights: ReadonlyMap<string, Float32Array>,
  ): Promise<IsotropyFile> {
    const measured = await measureIsotropy(session.of(weights), this.batches, this.maxSteps);
    return { ...measured, lambda: trainedLambda(this.options.loss.config, this.checkpoints?.recordedChanges) };
  }

  /** @throws {InvalidArgumentError} when the loss lacks a scalar that should be changeable. */
  private liveSettings(): LiveSettings {
    const { loss, changeable_scalars = [] } = this.options;
    return new LiveSettings(this.args.learning_rate, loss, changeable_scalars);
  }

  /**
   * The engine in the state it starts from, and where that is in the run. From here on the engine alone holds the
   * state: for a large model a second copy would be most of what a step needs.
   */
  private async startEngine(
    ranks: Ranks,
    lock: FolderLock,
    batches: Batches,
    resume: string | undefined,
    live: LiveSettings,
  ) {
    const { args, communicator } = this;
    const { model, tf, callbacks = [], on_warning = warn } = this.options;
    const compute = tf ? { tf } : { device: await this.device() };
    if (compute.device === 'cuda') this.identity = onCuda(this.identity, usesTf32());
    const { identity } = this;
    const length = model.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
    const kinds = STATE_KINDS.filter((kind) => args.use_ema || kind !== 'ema');
    const lengths = new Map<StateKind, number>(kinds.map((kind) => [kind, length]));
    if (args.mixed_precision === 'fp16') lengths.set('loss_scaler', LOSS_SCALER_LENGTH);
    const { checkpoints, start } = await openForAll(ranks, communicator, lengths, () => {
      const folder = { outputDir: args.output_dir, keep: args.save_total_limit, identity, lengths, lock };
      return RunCheckpoints.open(folder, resume, (skipped) =>
        notifyAll(callbacks, (callback) => callback.onCheckpointSkipped?.(skipped)),
      );
    });
    if (ranks.isFirst && start?.warning !== undefined) on_warning(start.warning);
    refuseChangedConfig(model, identity);
    const settings = stepSettings(this.options, args, communicator.size);
    const inherited = live.restore(checkpoints.recordedChanges);
    const schedule = stepSchedule(args, this.maxSteps, live);
    const engine = await Engine.create(settings, compute, start?.state ?? this.state, batches, schedule, communicator);
    this.state = new Map();
    const { step, window, changes } = start ?? { step: 0, window: undefined, changes: [] };
    // A log that goes on has the changes of the checkpoint's run already.
    const noted = checkpoints.formerLog === 'other' ? [...inherited, ...changes] : changes;
    return { engine, checkpoints, start: start && { step, window, changes: noted } };
  }

  /** Where onnxruntime computes, with TF32 on cuda as the arguments say. */
  private async device(): Promise<ConcreteDevice> {
    const { device, tf32 } = this.args;
    const samples = isImageSet(this.options.train_dataset) ? 'images' : 'points';
    const found = await resolveDevice(device, { samples });
    if (found === 'cuda' && tf32 !== undefined) setTf32(tf32);
    return found;
  }

  private loggedRun(global_step: number): LoggedRun {
    const { output_dir } = this.args;
    const settings = { dataset: this.options.train_dataset.name, ...flatSettings(this.identity) };
    return { output_dir, global_step, max_steps: this.maxSteps, settings };
  }

  private runOf(engine: Engine, loop: TrainingLoop, loggers: RunLoggers): TrainerRun {
    const { model, train_dataset } = this.options;
    return {
      output_dir: this.args.output_dir,
      train_dataset,
      loggers,
      saveSnapshot: async (directory, { complete = false } = {}) => {
        const kind = this.args.use_ema ? 'ema' : 'parameters';
        const vector = await engine.withState(async (state) => new Float32Array(state.get(kind) ?? []));
        const snapshot = { ...this.parts, weights: namedViews(model.parameters, vector) };
        if (!complete) return saveTrainedPipeline(directory, snapshot);
        const card = { ...this.cardFacts(loop.step), averaged: false };
        await this.measured((measure) => saveTrainedPipeline(directory, { ...snapshot, card, measure }));
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
