import { world } from '#distributed/world';
import { withFolderLock } from '#files/folder-lock';
import { hasTerminal, warn } from '#platform/system';
import { setTf32, usesTf32 } from '#runtime/tf32';
import { receivesSignals, withDeferredInterrupt } from '#terminal/interrupt';
import { requireObject } from '../arguments.ts';
import type { Communicator } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { FolderLock } from '../files/folder-lock.ts';
import { elementCount } from '../graph/types.ts';
import type { LossConfig, LossScalar } from '../losses/loss.ts';
import { initialVector, namedViews } from '../models/model.ts';
import { type ConcreteDevice, isCuda, resolveDevice } from '../runtime/device.ts';
import { RunCheckpoints } from './checkpoint/run-checkpoints.ts';
import { flatSettings, onCuda, type RunIdentity, runIdentity } from './checkpoint/run-identity.ts';
import { type Checkpoints, openForAll } from './checkpoint/shared-start.ts';
import { refuseChangedConfig, refuseUnevenTree } from './checks.ts';
import { type BatchSettings, BatchStream } from './data/batch-stream.ts';
import { type Batches, openBatches } from './data/prefetched-batches.ts';
import type { Samples } from './data/samples.ts';
import { Engine } from './engines/engine.ts';
import { LiveSettings, type TrainingChanges } from './live-settings.ts';
import type { LoggedRun, RunLoggers, RunOutcome } from './logging/run-logger.ts';
import { openLoggers } from './logging/run-loggers.ts';
import { optimizerSettings } from './optimizers.ts';
import { progressLine } from './progress-line.ts';
import { Ranks } from './ranks.ts';
import { LOSS_SCALER_LENGTH } from './step/loss-scaler.ts';
import type { Objective } from './step/objective.ts';
import { settingsOf, stepSchedule } from './step/settings.ts';
import { type StateKind, type TrainingState, vectorKinds } from './step/update.ts';
import { notifyAll, type TrainerRun } from './trainer-callback.ts';
import type { RunOptions } from './trainer-options.ts';
import type { ResolvedTrainingArguments } from './training-arguments.ts';
import { TrainingLoop, type TrainOutput } from './training-loop.ts';

/** How `train()` begins, and what may stop it. */
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

/** What is trained, and on what: all in which one trainer differs from another. */
export interface Subject {
  /** What has the parameters, by the name of its option, which checkpoints record with its config. */
  readonly trained: TrainerRun['trained'];
  readonly objective: Objective;
  readonly loss: { readonly config: LossConfig; readonly scalars: Readonly<Record<string, LossScalar>> };
  /** What else decides the numbers of a run. It is JSON. */
  readonly recorded?: Readonly<Record<string, unknown>> | undefined;
  readonly samples: Samples;
  /** What is drawn for each sample. */
  readonly draws: Omit<BatchSettings, 'batchSize' | 'own' | 'seed'>;
}

/** What all trainers do alike: the run with its engine, checkpoints, logs, callbacks and ranks. */
export abstract class BaseTrainer<Options extends RunOptions> {
  /** The arguments of the run, with the defaults of those that were not given; frozen. */
  readonly args: ResolvedTrainingArguments;
  /** Steps the whole run takes. */
  readonly maxSteps: number;
  protected readonly batches: BatchStream;
  protected identity: RunIdentity;
  /** Steps done. */
  protected step = 0;
  /** Those of the last run, which know what was changed. */
  protected checkpoints: Checkpoints | undefined;
  /** The processes that share a step. */
  protected readonly communicator: Communicator = world();
  private state: TrainingState;
  /** While training runs. */
  private live: LiveSettings | undefined;

  /**
   * @param options shared with nobody who could change them. @param args those of the options with their defaults.
   * @throws {InvalidArgumentError} when arguments do not go together.
   * @throws {DistributedError} when mpirun or srun started the process, and MPI cannot be used.
   */
  protected constructor(
    protected readonly options: Options,
    args: ResolvedTrainingArguments,
    private readonly subject: Subject,
  ) {
    this.args = Object.freeze(args);
    const { trained, loss, objective, recorded, samples, draws } = subject;
    const { size, rank } = this.communicator;
    refuseUnevenTree(args, size);
    const count = args.per_device_train_batch_size * args.gradient_accumulation_steps;
    this.batches = new BatchStream(samples, {
      batchSize: count * size,
      own: { first: rank * count, count },
      seed: args.seed,
      ...draws,
    });
    this.liveSettings();
    this.maxSteps = args.max_steps > 0 ? args.max_steps : args.num_train_epochs * this.batches.stepsPerEpoch;
    const parts = { [trained.name]: trained.config, loss: loss.config, ...recorded };
    this.identity = runIdentity({ ...parts, dataset_sha256: samples.fingerprint }, args, this.maxSteps, size);
    const parameters = initialVector(objective, args.seed);
    this.state = new Map([
      ['parameters', parameters],
      ['ema', parameters],
    ]);
  }

  /**
   * Writes weights in the form in which they are opened again.
   *
   * @param complete with all that a finished run is saved with.
   */
  protected abstract saveSnapshot(
    directory: string,
    weights: ReadonlyMap<string, Float32Array>,
    progress: { readonly step: number; readonly complete: boolean },
  ): Promise<void>;

  /**
   * Makes the samples ready, on every rank, before the run looks for a checkpoint. A trainer whose samples are ready when it
   * is made has nothing to do.
   */
  protected async prepare(_ranks: Ranks, _signal: AbortSignal | undefined): Promise<void> {}

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
        'change() works while train() runs: before that, give learning_rate and the loss to the trainer',
      );
    this.live.request(changes);
  }

  /** The trained parameters by name, or their moving average. @throws {InvalidArgumentError} without `use_ema`. */
  weights({ ema = false }: { ema?: boolean } = {}): Map<string, Float32Array> {
    return namedViews(this.subject.objective.parameters, this.vector(ema).slice());
  }

  /** As `weights`, without a copy. */
  protected views(ema: boolean): Map<string, Float32Array> {
    return namedViews(this.subject.objective.parameters, this.vector(ema));
  }

  /** Where onnxruntime computes, with TF32 on cuda as the arguments say. */
  protected async device(): Promise<ConcreteDevice> {
    const { device, device_id, tf32 } = this.args;
    const samples = this.batches.samples.sampleShape.length === 1 ? 'points' : 'images';
    const found = await resolveDevice(device, { samples, device_id });
    if (isCuda(found) && tf32 !== undefined) setTf32(tf32);
    return found;
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
    const own: Pick<RunOptions, 'loggers'> = ranks.isFirst ? this.options : {};
    const given = (this.options.callbacks ?? []).filter(({ on_all_ranks }) => ranks.isFirst || on_all_ranks);
    const callbacks = [...(line ? [line] : []), ...given];
    await this.prepare(ranks, signal);
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

  /** @throws {InvalidArgumentError} when the loss lacks a scalar that should be changeable. */
  private liveSettings(): LiveSettings {
    return new LiveSettings(this.args.learning_rate, this.subject.loss, this.options.changeable_scalars ?? []);
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
    const { tf, callbacks = [], on_warning = warn, changeable_scalars: lossScalars } = this.options;
    const { objective, trained } = this.subject;
    const compute = tf ? { tf } : { device: await this.device() };
    if (compute.device && isCuda(compute.device)) this.identity = onCuda(this.identity, usesTf32());
    const { identity } = this;
    const length = objective.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
    const kinds = vectorKinds({ optimizer: optimizerSettings(args), ema: args.use_ema });
    const lengths = new Map<StateKind, number>(kinds.map((kind) => [kind, length]));
    if (args.mixed_precision === 'fp16') lengths.set('loss_scaler', LOSS_SCALER_LENGTH);
    const { checkpoints, start } = await openForAll(ranks, communicator, lengths, () => {
      const folder = { outputDir: args.output_dir, keep: args.save_total_limit, identity, lengths, lock };
      return RunCheckpoints.open(folder, resume, (skipped) =>
        notifyAll(callbacks, (callback) => callback.onCheckpointSkipped?.(skipped)),
      );
    });
    if (ranks.isFirst && start?.warning !== undefined) on_warning(start.warning);
    refuseChangedConfig(trained, identity);
    const settings = settingsOf(objective, args, { ranks: communicator.size, lossScalars });
    const inherited = live.restore(checkpoints.recordedChanges);
    const schedule = stepSchedule(args, this.maxSteps, live);
    const engine = await Engine.create(settings, compute, start?.state ?? this.state, batches, schedule, communicator);
    this.state = new Map();
    const { step, window, changes } = start ?? { step: 0, window: undefined, changes: [] };
    // A log that goes on has the changes of the checkpoint's run already.
    const noted = checkpoints.formerLog === 'other' ? [...inherited, ...changes] : changes;
    return { engine, checkpoints, start: start && { step, window, changes: noted } };
  }

  private loggedRun(global_step: number): LoggedRun {
    const { output_dir } = this.args;
    const settings = { dataset: this.options.train_dataset.name, ...flatSettings(this.identity) };
    return { output_dir, global_step, max_steps: this.maxSteps, settings };
  }

  private runOf(engine: Engine, loop: TrainingLoop, loggers: RunLoggers): TrainerRun {
    const kind = this.args.use_ema ? 'ema' : 'parameters';
    const weights = async () => {
      const vector = await engine.withState(async (state) => new Float32Array(state.get(kind) ?? []));
      return namedViews(this.subject.objective.parameters, vector);
    };
    return {
      output_dir: this.args.output_dir,
      trained: this.subject.trained,
      train_dataset: this.options.train_dataset,
      condition_dataset: this.subject.samples.images?.condition,
      ranks: this.communicator,
      loggers,
      weights,
      saveSnapshot: async (directory, { complete = false } = {}) =>
        this.saveSnapshot(directory, await weights(), { step: loop.step, complete }),
    };
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
