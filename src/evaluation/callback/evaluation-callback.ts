import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { writeCacheFile } from '../../datasets/images/cache-file.ts';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { removeLeftovers } from '../../files/atomic.ts';
import { DEVICES } from '../../runtime/device.ts';
import type { DiffusionScheduler } from '../../schedulers/index.ts';
import { isImageSet } from '../../trainers/data/samples.ts';
import type { TrainerCallback, TrainerRun, TrainerState } from '../../trainers/trainer-callback.ts';
import type { SnapshotMetrics, SnapshotSettings } from './evaluate-snapshot.ts';
import { EvaluationLog, type EvaluationRecord } from './evaluation-log.ts';
import { SnapshotEvaluator } from './snapshot-evaluator.ts';

const settingsSchema = z.object({
  every_epochs: z.int().min(1).default(1),
  samples: z.int().min(0).max(10_000).optional(),
  num_inference_steps: z.int().min(1).default(50),
  eta: z.number().min(0).max(1).optional(),
  guidance_scale: z.number().optional(),
  seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  device: z.enum(DEVICES).default('auto'),
  directory: z.string().min(1).optional(),
});

/**
 * - `every_epochs` (1): evaluates after each so many epochs, and after the last step.
 * - `samples`: in the grid of images (64) or the scatter plot of 2-D points (2,000); 0 for none.
 * - `num_inference_steps` (50), `eta`, `guidance_scale`: of the reverse process.
 * - `seed` (0): the same for every evaluation, so that their samples compare.
 * - `device` ('auto'): where samples are drawn. On the device of the training both share it.
 * - `directory`: default `evaluation` in the run's `output_dir`.
 */
export interface EvaluationCallbackOptions extends z.input<typeof settingsSchema> {
  /**
   * Metrics against the training data, with the options of `evaluate`; default none. `num_samples` is by default as many as
   * there are training samples, at most 10,000. The extractor is given by name.
   */
  readonly metrics?: SnapshotMetrics | undefined;
  /** A scheduler, or the JSON config of one; default DDIM with the betas of the run. */
  readonly scheduler?: DiffusionScheduler | Readonly<Record<string, unknown>> | undefined;
  /** Called with every finished evaluation. */
  readonly on_evaluation?: ((record: EvaluationRecord) => void) | undefined;
  /** Told when an evaluation failed, which does not end the training; default `process.emitWarning`. */
  readonly on_warning?: ((message: string) => void) | undefined;
}

const SNAPSHOT = /^\.snapshot-(\d+)$/;
const IMAGES_FILE = '.training-images';

interface ActiveRun {
  readonly directory: string;
  readonly log: EvaluationLog;
  readonly evaluator: SnapshotEvaluator;
  /** The evaluation under way; never rejects. */
  current: Promise<void>;
  /** The step of the last evaluation, whether it succeeded or not. */
  lastStep: number;
}

/**
 * Draws samples from the model while it is trained, and measures them: from the averaged weights where `use_ema` is on. Writes
 * `step-0000300.png` (grids; of points also `.svg`) and `metrics.jsonl` into `OUTPUT_DIR/evaluation`.
 *
 * A copy of the weights is written between two steps; the rest runs in another process with low priority, so that
 * training goes on meanwhile and its numbers are those of a run without this callback. One evaluation runs at a time:
 * where it takes longer than `every_epochs`, the next one waits for it, and training with it. A resumed run makes up for
 * what the interrupted one began.
 *
 * @throws {InvalidArgumentError} for wrong options. Training then fails before its first step with a
 * `SnapshotEvaluationError` when the extractor cannot be loaded.
 *
 * @example
 * const evaluation = new EvaluationCallback({ every_epochs: 10, metrics: { metrics: ['fid'], extractor: 'inception' } });
 * const trainer = new Trainer({ model, args, train_dataset, loss, noise_scheduler, callbacks: [evaluation] });
 */
export class EvaluationCallback implements TrainerCallback {
  private readonly settings: z.output<typeof settingsSchema>;
  private run: ActiveRun | undefined;

  constructor(private readonly options: EvaluationCallbackOptions = {}) {
    const parsed = settingsSchema.safeParse(options);
    if (!parsed.success)
      throw new InvalidArgumentError(`wrong options of the evaluation:\n${z.prettifyError(parsed.error)}`);
    this.settings = parsed.data;
  }

  async onTrainBegin({ global_step, epoch }: TrainerState, run: TrainerRun): Promise<void> {
    this.run?.evaluator.stop();
    this.run = undefined;
    const directory = this.settings.directory ?? path.join(run.output_dir, 'evaluation');
    await mkdir(directory, { recursive: true });
    await removeLeftovers(directory, () => true);
    const log = await EvaluationLog.open(path.join(directory, 'metrics.jsonl'), global_step);
    const evaluator = await SnapshotEvaluator.start(await this.snapshotSettings(run, directory));
    const lastStep = log.has(global_step) ? global_step : 0;
    const active = { directory, log, evaluator, current: Promise.resolve(), lastStep };
    this.run = active;
    for (const step of await snapshotSteps(directory)) {
      const begun = step <= global_step && !log.has(step);
      if (begun) await this.evaluate(active, step, (epoch * step) / global_step);
      else await rm(snapshotPath(directory, step), { recursive: true, force: true });
    }
  }

  async onEpoch(state: TrainerState, run: TrainerRun): Promise<void> {
    if (Math.round(state.epoch) % this.settings.every_epochs === 0) await this.take(state, run);
  }

  async onTrainEnd(state: TrainerState, run: TrainerRun): Promise<void> {
    if (!this.run) return;
    const { lastStep, evaluator, directory } = this.run;
    const complete = state.global_step >= state.max_steps;
    try {
      // An interrupted run ends at once: its snapshot stays, and the resumed run evaluates it.
      if (!complete) return;
      if (lastStep < state.global_step) await this.take(state, run);
      await this.run.current;
      await rm(path.join(directory, IMAGES_FILE), { force: true });
    } finally {
      evaluator.stop();
      this.run = undefined;
    }
  }

  /** Writes the weights, and starts their evaluation once the one before has ended. */
  private async take({ global_step, epoch }: TrainerState, run: TrainerRun): Promise<void> {
    const active = this.run;
    if (!active) return;
    await active.current;
    await run.saveSnapshot(snapshotPath(active.directory, global_step));
    await this.evaluate(active, global_step, epoch);
  }

  private async evaluate(active: ActiveRun, step: number, epoch: number): Promise<void> {
    await active.current;
    active.lastStep = step;
    active.current = this.finish(active, step, epoch).catch(async (error: Error) => {
      // The run was interrupted or begun anew: nobody waits for this evaluation any more.
      if (this.run !== active) return;
      const warn = this.options.on_warning ?? process.emitWarning;
      warn(`the model of step ${step} was not evaluated: ${error.message}`);
      await rm(snapshotPath(active.directory, step), { recursive: true, force: true });
    });
  }

  private async finish({ directory, log, evaluator }: ActiveRun, step: number, epoch: number): Promise<void> {
    const snapshot = snapshotPath(directory, step);
    const image = path.join(directory, `step-${String(step).padStart(7, '0')}`);
    const { files, report } = await evaluator.run(snapshot, image);
    const record: EvaluationRecord = {
      step,
      epoch: Number(epoch.toFixed(4)),
      files: [...files],
      ...(report ? { ...report.metrics, extractor: report.extractor, samples: report.fake.count } : {}),
    };
    await log.add(record);
    await rm(snapshot, { recursive: true, force: true });
    this.options.on_evaluation?.(record);
  }

  private async snapshotSettings(
    { train_dataset }: TrainerRun,
    directory: string,
  ): Promise<SnapshotSettings> {
    const { num_inference_steps, eta, guidance_scale, seed, device } = this.settings;
    const images = isImageSet(train_dataset);
    const { metrics, scheduler } = this.options;
    return {
      real: images
        ? await imageSettings(train_dataset, metrics && path.join(directory, IMAGES_FILE))
        : { kind: 'points', points: train_dataset },
      samples: this.settings.samples ?? (images ? 64 : 2000),
      metrics,
      num_inference_steps,
      scheduler: plainConfig(scheduler),
      eta,
      guidance_scale,
      classes: images ? [...new Set(train_dataset.labels)].sort((a, b) => a - b) : [],
      seed,
      device,
    };
  }
}

/** The other process measures against a file of the images, which may be too many to send. */
async function imageSettings(set: ImageSet, file: string | undefined): Promise<SnapshotSettings['real']> {
  const { name, count, height, width, channels, labels } = set;
  const images = async function* () {
    for (let i = 0; i < count; i++)
      yield { source: `${i}`, label: labels?.[i], pixels: set.pixels(i).slice(), height, width };
  };
  if (file) await writeCacheFile(file, { name, height, width, channels, randomCrop: false }, images());
  return { kind: 'images', file, gridScale: Math.max(1, Math.round(64 / width)) };
}

function plainConfig(scheduler: EvaluationCallbackOptions['scheduler']) {
  const config = scheduler && 'toConfig' in scheduler ? scheduler.toConfig : undefined;
  return typeof config === 'function'
    ? (config.call(scheduler) as Record<string, unknown>)
    : (scheduler as Record<string, unknown> | undefined);
}

const snapshotPath = (directory: string, step: number) => path.join(directory, `.snapshot-${step}`);

/** The steps of the snapshots in a folder, ascending. */
async function snapshotSteps(directory: string): Promise<number[]> {
  const steps = (await readdir(directory)).flatMap((name) => SNAPSHOT.exec(name)?.[1] ?? []);
  return steps.map(Number).sort((a, b) => a - b);
}
