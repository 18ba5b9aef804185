import { CheckpointError, NonFiniteLossError } from '../errors.ts';
import * as z from '../zod.ts';
import type { Progress } from './checkpoint/run-checkpoints.ts';
import type { Checkpoints } from './checkpoint/shared-start.ts';
import type { Engine } from './engines/engine.ts';
import type { LiveSettings } from './live-settings.ts';
import type { RunLoggers } from './logging/run-logger.ts';
import type { Ranks } from './ranks.ts';
import { learningRateAt } from './schedules.ts';
import type { StepReport } from './step/loss-graph.ts';
import { SCALER_REPORT } from './step/loss-scaler.ts';
import {
  notifyAll,
  type StepMetrics,
  type TrainerCallback,
  type TrainerRun,
  type TrainerState,
} from './trainer-callback.ts';
import type { ResolvedTrainingArguments } from './training-arguments.ts';

/** What `train()` gives when the run has ended. */
export interface TrainOutput {
  /** Steps done. */
  readonly global_step: number;
  /** The last logged metrics; undefined when no step was run. */
  readonly metrics: StepMetrics | undefined;
  /** Whether it ended before the last step, because `signal` aborted. */
  readonly interrupted: boolean;
}

/** Settings of the training loop. */
export interface LoopSettings {
  readonly args: ResolvedTrainingArguments;
  readonly callbacks: readonly TrainerCallback[];
  readonly maxSteps: number;
  readonly stepsPerEpoch: number;
  readonly live: LiveSettings;
  readonly ranks: Ranks;
}

/** Where in the run the engine's state is. */
type LoopStart = Omit<Progress, 'state'>;

/** Runs an engine to the last step, and does what is due between steps: logs, checkpoints, callbacks. */
export class TrainingLoop {
  private readonly window: MetricsWindow;
  private done: number;
  private savedAt: number;
  private reported = { step: 0, time: 0 };
  private metrics: StepMetrics | undefined;

  /** @param start undefined for a fresh run. */
  constructor(
    private readonly engine: Engine,
    private readonly checkpoints: Checkpoints,
    private readonly loggers: RunLoggers,
    private readonly settings: LoopSettings,
    private readonly start: LoopStart | undefined,
  ) {
    this.window = new MetricsWindow(engine.reported);
    this.done = start?.step ?? 0;
    this.savedAt = start?.step ?? -1;
  }

  /** Steps done. */
  get step(): number {
    return this.done;
  }

  /** @param run what callbacks are given. @throws whatever the engine or a callback throws. */
  async run(run: TrainerRun, signal?: AbortSignal): Promise<TrainOutput> {
    const { maxSteps, stepsPerEpoch, args } = this.settings;
    if (this.start) this.window.restore(this.start.window);
    this.reported = { step: this.done, time: performance.now() };
    await this.notify((callback) => callback.onTrainBegin?.(this.progress(), run));
    while (this.done < maxSteps && (await this.goesOn(signal))) {
      await this.applyChanges();
      const count = Math.min(this.stepsUntilNextEvent(), this.engine.maxStepsPerRun);
      for (const report of await this.advised(this.steps(count))) this.window.add(report);
      this.done += count;
      if (this.done % args.logging_steps === 0 || this.done === maxSteps) await this.report();
      if (run.ranks.size > 1)
        await this.notify((callback) =>
          callback.on_all_ranks ? callback.onMeeting?.(this.progress(), run) : undefined,
        );
      if (this.done % stepsPerEpoch === 0) await this.notify((callback) => callback.onEpoch?.(this.progress(), run));
      await this.notify((callback) => {
        const { interval_steps = 0 } = callback;
        return interval_steps > 0 && this.done % interval_steps === 0
          ? callback.onInterval?.(this.progress(), run)
          : undefined;
      });
      if (args.save_steps > 0 && this.done % args.save_steps === 0) await this.save();
    }
    if (this.savedAt !== this.done) await this.save();
    await this.notify((callback) => callback.onTrainEnd?.(this.progress(), run));
    await this.settings.ranks.end();
    return { global_step: this.done, metrics: this.metrics, interrupted: this.done < maxSteps };
  }

  /** Whether no rank was told to stop. What was changed on rank 0 then counts on all. */
  private async goesOn(signal: AbortSignal | undefined): Promise<boolean> {
    const { ranks, live } = this.settings;
    const { stops, text } = await ranks.agree(signal?.aborted === true, live.waiting);
    live.replaceWaiting(text);
    return !stops;
  }

  private steps(count: number): Promise<StepReport[]> {
    return this.settings.ranks.together(() => this.engine.run(this.done, count));
  }

  /** What was changed since the last steps counts from the next one on. */
  private async applyChanges(): Promise<void> {
    const changes = this.settings.live.apply();
    if (changes.length === 0) return;
    this.checkpoints.recordChanges(this.done + 1, changes);
    await this.loggers.note(this.done + 1, changes);
  }

  /** Runs end where something has to happen: a log, the end of an epoch, a callback's interval, a checkpoint, the end. */
  private stepsUntilNextEvent(): number {
    const { args, callbacks, maxSteps, stepsPerEpoch } = this.settings;
    const untilMultiple = (interval: number) =>
      interval > 0 ? interval - (this.done % interval) : Number.POSITIVE_INFINITY;
    return Math.min(
      untilMultiple(args.logging_steps),
      untilMultiple(stepsPerEpoch),
      untilMultiple(args.save_steps),
      ...callbacks.map(({ interval_steps = 0 }) => untilMultiple(interval_steps)),
      maxSteps - this.done,
    );
  }

  private async report(): Promise<void> {
    const now = performance.now();
    const stepsPerSecond = ((this.done - this.reported.step) * 1000) / (now - this.reported.time);
    this.reported = { step: this.done, time: now };
    const { args, maxSteps, live } = this.settings;
    const { loss = Number.NaN, grad_norm = Number.NaN, ...terms } = this.window.means();
    const { skipped_steps = 0 } = this.window.levels;
    const updates = Math.max(1, this.done - skipped_steps);
    const learning_rate = learningRateAt(updates, { ...args, learning_rate: live.learningRate }, maxSteps);
    const metrics = { loss, ...terms, grad_norm, learning_rate, ...this.window.levels };
    this.metrics = metrics;
    this.window.clear();
    const progress = this.progress(stepsPerSecond);
    await this.loggers.log(this.done, { ...metrics, epoch: progress.epoch, steps_per_second: stepsPerSecond });
    await this.notify((callback) => callback.onStep?.(progress, metrics));
  }

  private async save(): Promise<void> {
    if (!this.settings.ranks.isFirst) return;
    const saving = this.engine.withState((state) =>
      this.checkpoints.save({ step: this.done, state, window: this.window.toJSON() }),
    );
    const directory = await this.advised(saving);
    this.savedAt = this.done;
    await this.notify((callback) => callback.onSave?.(this.progress(), directory));
  }

  /** When a run diverges, its error says what to do about it. */
  private async advised<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      if (!(error instanceof NonFiniteLossError)) throw error;
      // A loss comes from the weights of the step before. Weights that are not finite are found when they are saved.
      const cause = Math.max(this.done, error.step - 1);
      throw new NonFiniteLossError(`${error.message}. ${await this.checkpoints.afterDivergence(cause)}`, error.step);
    }
  }

  private progress(stepsPerSecond = 0): TrainerState {
    const { maxSteps, stepsPerEpoch } = this.settings;
    return {
      global_step: this.done,
      max_steps: maxSteps,
      epoch: this.done / stepsPerEpoch,
      num_train_epochs: Math.ceil(maxSteps / stepsPerEpoch),
      steps_per_second: stepsPerSecond,
    };
  }

  private notify(call: Parameters<typeof notifyAll>[1]): Promise<void> {
    return notifyAll(this.settings.callbacks, call);
  }
}

/**
 * Sums of what steps reported since the last log, by name. They are part of a checkpoint: a resumed run logs what an
 * unbroken one would. Steps that were skipped, whose gradient is not finite, are not among them.
 */
export class MetricsWindow {
  /** What counts as the last step left it: the scale of the loss and the skipped steps, where the loss is scaled. */
  levels: StepReport = {};
  private steps = 0;
  private readonly sums: Map<string, number>;

  constructor(names: readonly string[]) {
    this.sums = new Map(names.filter((name) => !isLevel(name)).map((name) => [name, 0]));
  }

  add(report: StepReport): void {
    this.levels = Object.fromEntries(Object.entries(report).filter(([name]) => isLevel(name)));
    if (report.loss_scale !== undefined && !Number.isFinite(report.grad_norm)) return;
    this.steps += 1;
    for (const [name, sum] of this.sums) this.sums.set(name, sum + (report[name] ?? Number.NaN));
  }

  means(): StepReport {
    return Object.fromEntries([...this.sums].map(([name, sum]) => [name, sum / this.steps]));
  }

  clear(): void {
    this.steps = 0;
    for (const name of this.sums.keys()) this.sums.set(name, 0);
  }

  toJSON(): SavedWindow {
    return { steps: this.steps, sums: Object.fromEntries(this.sums) };
  }

  /** @throws {CheckpointError} when `saved` is not what `toJSON` gives for the same names. */
  restore(saved: unknown): void {
    const parsed = windowSchema.safeParse(saved);
    const names = [...this.sums.keys()];
    const found = parsed.success ? Object.keys(parsed.data.sums) : [];
    if (!parsed.success || found.length !== names.length || !names.every((name) => found.includes(name)))
      throw new CheckpointError(
        `the metrics in the checkpoint are ${parsed.success ? found.join(', ') : 'of another version of this package'}, but this run reports ${names.join(', ')}: resume with the same loss and version, or start afresh`,
      );
    this.steps = parsed.data.steps;
    for (const name of names) this.sums.set(name, parsed.data.sums[name] ?? 0);
  }
}

function isLevel(name: string): boolean {
  return SCALER_REPORT.some((level) => level === name);
}

const windowSchema = z.strictObject({ steps: z.int().check(z.nonnegative()), sums: z.record(z.string(), z.number()) });
type SavedWindow = z.output<typeof windowSchema>;
