import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gatherFloats } from '../../distributed/communicator.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { removeLeftovers } from '../../files/atomic.ts';
import { exists, freePath } from '../../files/regular-file.ts';
import { parseOptions } from '../../options.ts';
import { isImageSet } from '../../trainers/data/samples.ts';
import type { TrainerCallback, TrainerRun, TrainerState } from '../../trainers/trainer-callback.ts';
import { DEFAULT_METRICS, type EvaluationReport } from '../options.ts';
import { BestSnapshot } from './best-snapshot.ts';
import { type CheckedOptions, type EvaluationCallbackOptions, settingsSchema } from './callback-options.ts';
import { EvaluationLog, type EvaluationRecord, LOG_FILE } from './evaluation-log.ts';
import type { SnapshotResult } from './evaluation-process.ts';
import { SharedEvaluations } from './shared-evaluations.ts';
import { SnapshotEvaluator } from './snapshot-evaluator.ts';
import { SNAPSHOT_FILES, snapshotSettings } from './snapshot-settings.ts';

const SNAPSHOT = /^\.snapshot-(\d+)$/;

/** What a rank evaluates with. */
interface Evaluating {
  readonly evaluator: SnapshotEvaluator;
  /** With several ranks, of images. */
  readonly shared: SharedEvaluations | undefined;
  /** Folder of the snapshots of this rank. */
  readonly directory: string;
}

/** Rank 0's, which has the results. */
interface ActiveRun extends Evaluating {
  readonly log: EvaluationLog;
  readonly run: TrainerRun;
  readonly best: BestSnapshot | undefined;
  /** The evaluation under way; never rejects. */
  current: Promise<void>;
  /** The step of the last evaluation, whether it succeeded or not. */
  lastStep: number;
}

/**
 * Draws samples from the model during training, from the averaged weights where `use_ema` is on, and measures them. Writes
 * `step-0000300.png` (for points also `.svg`) and `metrics.jsonl` into `OUTPUT_DIR/evaluation`. That folder of another run
 * is kept as `evaluation-2`.
 *
 * A copy of the weights is written between two steps. The rest runs in another process with low priority, while training
 * goes on; the training's numbers do not change. One evaluation runs at a time: the next one waits for it, and so does the
 * training. A resumed run completes the evaluation that was interrupted. Of a training on several ranks each draws and
 * measures a share of the images, and rank 0 merges them: the values are those of one process.
 *
 * @throws {InvalidArgumentError} for wrong options. Training fails before its first step, with a
 * `SnapshotEvaluationError`, when a metric is unknown or the extractor cannot be loaded.
 *
 * @example
 * const evaluation = new EvaluationCallback({ every_epochs: 10, metrics: { metrics: ['fid'], extractor: 'inception' } });
 * const trainer = new Trainer({ model, args, train_dataset, loss, noise_scheduler, callbacks: [evaluation] });
 */
export class EvaluationCallback implements TrainerCallback {
  readonly interval_steps: number | undefined;
  /** Of images, all ranks draw and measure; of points, which are cheap, rank 0 alone. */
  readonly on_all_ranks = true;
  private readonly settings: CheckedOptions;
  private run: ActiveRun | undefined;
  /** On the other ranks. */
  private following: Evaluating | undefined;

  constructor(private readonly options: EvaluationCallbackOptions = {}) {
    this.settings = parseOptions(settingsSchema, options, 'options of the evaluation');
    const { every_epochs, every_steps, keep_best } = this.settings;
    if (every_epochs !== undefined && every_steps !== undefined)
      throw new InvalidArgumentError('every_epochs and every_steps are both given: leave one of them out');
    if (keep_best !== undefined && options.metrics === undefined)
      throw new InvalidArgumentError(`keep_best is '${keep_best}', but there are no metrics: give the option metrics`);
    this.interval_steps = every_steps;
  }

  async onTrainBegin({ global_step, epoch }: TrainerState, run: TrainerRun): Promise<void> {
    const { ranks, train_dataset, trained } = run;
    if (trained.name === 'autoencoder')
      throw new InvalidArgumentError(
        `EvaluationCallback draws from a diffusion model, but this run trains an autoencoder, ${trained.config._class_name}: leave the callback out, and give the trainer an eval_dataset`,
      );
    await this.run?.evaluator.stop();
    this.run = undefined;
    const isShared = ranks.size > 1 && isImageSet(train_dataset);
    if (ranks.rank > 0) {
      this.following = isShared ? await this.follow(run) : undefined;
      return;
    }
    const directory = this.settings.directory ?? path.join(run.output_dir, 'evaluation');
    // A fresh run does not replace what was measured of another one.
    if (global_step === 0 && (await exists(path.join(directory, LOG_FILE))))
      await rename(directory, await freePath(directory));
    await mkdir(directory, { recursive: true });
    await removeLeftovers(directory, () => true);
    const log = await EvaluationLog.open(path.join(directory, LOG_FILE), global_step);
    const best = await this.bestSnapshot(run, global_step);
    const evaluator = await this.startEvaluator(run, directory);
    const shared = isShared ? new SharedEvaluations(ranks, evaluator, path.join(directory, '.shares')) : undefined;
    const lastStep = log.find(global_step) ? global_step : 0;
    const active = { directory, log, evaluator, shared, run, best, current: Promise.resolve(), lastStep };
    this.run = active;
    for (const step of await snapshotSteps(directory)) {
      const snapshot = snapshotPath(directory, step);
      const record = log.find(step);
      if (step > global_step) await rm(snapshot, { recursive: true, force: true });
      else if (record) await settle(active, snapshot, record);
      else await this.evaluate(active, step, (epoch * step) / global_step);
    }
  }

  async onEpoch(state: TrainerState, run: TrainerRun): Promise<void> {
    const { every_steps, every_epochs = 1 } = this.settings;
    if (every_steps === undefined && Math.round(state.epoch) % every_epochs === 0) await this.take(state, run);
  }

  onInterval(state: TrainerState, run: TrainerRun): Promise<void> {
    return this.take(state, run);
  }

  /** Logs an evaluation as soon as all ranks have done their shares. */
  async onMeeting(): Promise<void> {
    const { shared } = this.evaluating ?? {};
    if (await shared?.isReady()) await this.collect();
  }

  async onTrainEnd(state: TrainerState, run: TrainerRun): Promise<void> {
    const { evaluating } = this;
    if (!evaluating) return;
    const { evaluator, directory, shared } = evaluating;
    const complete = state.global_step >= state.max_steps;
    try {
      // An interrupted run ends at once: its snapshot stays, and the resumed run evaluates it.
      if (!complete) return;
      // Rank 0 knows what was evaluated before the run was resumed.
      const own = Float32Array.of(this.run?.lastStep ?? 0);
      const [lastStep = 0] = shared ? await gatherFloats(run.ranks, own) : own;
      if (lastStep < state.global_step) await this.take(state, run);
      await this.collect();
      await this.settled();
      for (const file of SNAPSHOT_FILES) await rm(path.join(directory, file), { force: true });
    } finally {
      await evaluator.stop();
      await shared?.clear();
      if (this.following) await rm(directory, { recursive: true, force: true });
      this.run = undefined;
      this.following = undefined;
    }
  }

  private get evaluating(): Evaluating | undefined {
    return this.run ?? this.following;
  }

  /** Files of a rank that does not write go into a folder that ends with the run. */
  private async follow(run: TrainerRun): Promise<Evaluating> {
    const directory = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-rank-'));
    try {
      const evaluator = await this.startEvaluator(run, directory);
      const shared = new SharedEvaluations(run.ranks, evaluator, path.join(directory, 'shares'));
      return { evaluator, directory, shared };
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  private async startEvaluator(run: TrainerRun, directory: string): Promise<SnapshotEvaluator> {
    return SnapshotEvaluator.start(await snapshotSettings(this.options, this.settings, run, directory));
  }

  /** Writes the weights, and starts their evaluation once the one before has ended. */
  private async take(state: TrainerState, run: TrainerRun): Promise<void> {
    const { evaluating, run: active } = this;
    if (!evaluating) return;
    await this.collect();
    await this.settled();
    const { directory, shared } = evaluating;
    const snapshot = snapshotPath(directory, state.global_step);
    const save = () => run.saveSnapshot(snapshot, { complete: active?.best !== undefined });
    if (shared) await shared.begin(state, snapshot, save);
    else await save();
    if (!active) return;
    active.lastStep = state.global_step;
    if (!shared) await this.evaluate(active, state.global_step, state.epoch);
  }

  /** Takes what all ranks found of the snapshot before, if there is one; rank 0 goes on with it. */
  private async collect(): Promise<void> {
    const outcome = await this.evaluating?.shared?.collect();
    if (!outcome) return;
    const { step, epoch, merge } = outcome;
    if (this.run) await this.conclude(this.run, step, epoch, merge);
    else if (this.following) await rm(snapshotPath(this.following.directory, step), { recursive: true, force: true });
  }

  /** Waits on all ranks for what rank 0 has under way. */
  private async settled(): Promise<void> {
    const { shared } = this.evaluating ?? {};
    const current = this.run?.current ?? Promise.resolve();
    await (shared ? shared.allEnded(current) : current);
  }

  private evaluate(active: ActiveRun, step: number, epoch: number): Promise<void> {
    const snapshot = snapshotPath(active.directory, step);
    return this.conclude(active, step, epoch, (image) => active.evaluator.run(snapshot, image));
  }

  /** @param measure evaluates the snapshot. */
  private async conclude(
    active: ActiveRun,
    step: number,
    epoch: number,
    measure: (image: string) => Promise<SnapshotResult>,
  ): Promise<void> {
    await active.current;
    active.lastStep = Math.max(active.lastStep, step);
    active.current = this.finish(active, step, epoch, measure).catch(async (error: Error) => {
      // The run was interrupted or started again: nobody waits for this evaluation.
      if (this.run !== active) return;
      const warn = this.options.on_warning ?? process.emitWarning;
      warn(`the model of step ${step} was not evaluated: ${error.message}`);
      await rm(snapshotPath(active.directory, step), { recursive: true, force: true });
    });
  }

  private async finish(
    active: ActiveRun,
    step: number,
    epoch: number,
    measure: (image: string) => Promise<SnapshotResult>,
  ): Promise<void> {
    const { directory, log, run } = active;
    const { files, report } = await measure(path.join(directory, `step-${String(step).padStart(7, '0')}`));
    const record: EvaluationRecord = {
      step,
      epoch: Number(epoch.toFixed(4)),
      files: [...files],
      ...(report ? measured(report) : {}),
    };
    await log.add(record);
    await settle(active, snapshotPath(directory, step), record);
    if (report) await run.loggers.logEvaluation(step, report.metrics);
    for (const file of files.filter((name) => name.endsWith('.png')))
      await run.loggers.logImage(step, 'samples', await readFile(path.join(directory, file)));
    this.options.on_evaluation?.(record);
  }

  private async bestSnapshot({ output_dir, train_dataset }: TrainerRun, step: number) {
    const { keep_best, best_directory = path.join(output_dir, 'best') } = this.settings;
    if (keep_best === undefined) return undefined;
    const chosen = this.options.metrics?.metrics ?? DEFAULT_METRICS[isImageSet(train_dataset) ? 'images' : 'points'];
    return BestSnapshot.open(best_directory, keep_best, chosen, step);
  }
}

/** What a record holds of a report. */
function measured({ metrics: values, extractor, fake, warnings }: EvaluationReport) {
  return { ...values, extractor, samples: fake.count, ...(warnings ? { warnings: [...warnings] } : {}) };
}

/** Keeps a snapshot that is the best one, and removes another. */
async function settle({ best }: ActiveRun, snapshot: string, record: EvaluationRecord): Promise<void> {
  await best?.offer(snapshot, record);
  await rm(snapshot, { recursive: true, force: true });
}

const snapshotPath = (directory: string, step: number) => path.join(directory, `.snapshot-${step}`);

/** The steps of the snapshots in a folder, ascending. */
async function snapshotSteps(directory: string): Promise<number[]> {
  const steps = (await readdir(directory)).flatMap((name) => SNAPSHOT.exec(name)?.[1] ?? []);
  return steps.map(Number).sort((a, b) => a - b);
}
