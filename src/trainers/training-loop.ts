import { pruneCheckpoints } from './checkpoint/checkpoint.ts';
import type { RunIdentity } from './checkpoint/run-identity.ts';
import { type Progress, saveProgress } from './checkpoint/training-progress.ts';
import type { StepEngine } from './engines/step-engine.ts';
import type { MetricsLogger } from './logging/metrics-logger.ts';
import { MetricsWindow } from './metrics-window.ts';
import {
  notifyAll,
  type StepMetrics,
  type TrainerCallback,
  type TrainerRun,
  type TrainerState,
} from './trainer-callback.ts';
import type { ResolvedTrainingArguments } from './training-arguments.ts';

export interface TrainOutput {
  readonly global_step: number;
  /** The last logged metrics; undefined when no step was run. */
  readonly metrics: StepMetrics | undefined;
  readonly interrupted: boolean;
}

/** What the loop goes by. */
export interface LoopSettings {
  readonly args: ResolvedTrainingArguments;
  readonly identity: RunIdentity;
  readonly callbacks: readonly TrainerCallback[];
  readonly maxSteps: number;
  readonly stepsPerEpoch: number;
  learningRate(step: number): number;
}

/** Where in the run the engine's state is. */
export type LoopStart = Omit<Progress, 'state'>;

/** Runs an engine to the last step, and does what is due between steps: logs, checkpoints, callbacks. */
export class TrainingLoop {
  private readonly window = new MetricsWindow();
  private done: number;
  private savedAt: number;
  private reported = { step: 0, time: 0 };
  private metrics: StepMetrics | undefined;

  /** @param start undefined for a fresh run. */
  constructor(
    private readonly engine: StepEngine,
    private readonly loggers: MetricsLogger,
    private readonly settings: LoopSettings,
    private readonly start: LoopStart | undefined,
  ) {
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
    while (this.done < maxSteps && !signal?.aborted) {
      const count = Math.min(this.stepsUntilNextEvent(), this.engine.maxStepsPerRun);
      for (const row of await this.engine.run(this.done, count)) this.window.add(row);
      this.done += count;
      if (this.done % args.logging_steps === 0 || this.done === maxSteps) await this.report();
      if (this.done % stepsPerEpoch === 0)
        await this.notify((callback) => callback.onEpoch?.(this.progress(), run));
      if (args.save_steps > 0 && this.done % args.save_steps === 0) await this.save();
    }
    if (this.savedAt !== this.done) await this.save();
    await this.notify((callback) => callback.onTrainEnd?.(this.progress(), run));
    return { global_step: this.done, metrics: this.metrics, interrupted: this.done < maxSteps };
  }

  /** Runs end where something has to happen: a log, the end of an epoch, a checkpoint, the end. */
  private stepsUntilNextEvent(): number {
    const { args, maxSteps, stepsPerEpoch } = this.settings;
    const untilMultiple = (interval: number) =>
      interval > 0 ? interval - (this.done % interval) : Number.POSITIVE_INFINITY;
    return Math.min(
      untilMultiple(args.logging_steps),
      untilMultiple(stepsPerEpoch),
      untilMultiple(args.save_steps),
      maxSteps - this.done,
    );
  }

  private async report(): Promise<void> {
    const now = performance.now();
    const stepsPerSecond = ((this.done - this.reported.step) * 1000) / (now - this.reported.time);
    this.reported = { step: this.done, time: now };
    const metrics = this.window.means(this.settings.learningRate(this.done));
    this.metrics = metrics;
    this.window.clear();
    const progress = this.progress(stepsPerSecond);
    this.loggers.log(this.done, { ...metrics, epoch: progress.epoch, steps_per_second: stepsPerSecond });
    await this.notify((callback) => callback.onStep?.(progress, metrics));
  }

  private async save(): Promise<void> {
    const { args, identity } = this.settings;
    const directory = await this.engine.lendState((state) =>
      saveProgress(args.output_dir, { step: this.done, state, window: this.window.toJSON() }, identity),
    );
    await pruneCheckpoints(args.output_dir, args.save_total_limit);
    this.savedAt = this.done;
    await this.notify((callback) => callback.onSave?.(this.progress(), directory));
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
