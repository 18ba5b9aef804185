import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { writeCacheFile } from '../../datasets/images/cache-file.ts';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { removeLeftovers } from '../../files/atomic.ts';
import { exists, freePath } from '../../files/regular-file.ts';
import { metrics } from '../../metrics/registry.ts';
import { parseOptions } from '../../options.ts';
import { DEVICES, type Device, deviceIdOption, deviceOptions, resolveDevice } from '../../runtime/device.ts';
import { type GivenScheduler, isScheduler } from '../../schedulers/registry.ts';
import { isImageSet } from '../../trainers/data/samples.ts';
import type { TrainerCallback, TrainerRun, TrainerState } from '../../trainers/trainer-callback.ts';
import * as z from '../../zod.ts';
import { extractors, splitLayer } from '../extractors/registry.ts';
import { DEFAULT_METRICS, type EvaluationReport } from '../options.ts';
import { BestSnapshot } from './best-snapshot.ts';
import { EvaluationLog, type EvaluationRecord, LOG_FILE } from './evaluation-log.ts';
import type { SnapshotMetrics, SnapshotSettings } from './evaluation-process.ts';
import { SnapshotEvaluator } from './snapshot-evaluator.ts';

const extractorName = z.optional(
  z.string('evaluations run in a process of their own: register the extractor in a module and give its name'),
);
const settingsSchema = z.object({
  metrics: z.optional(z.looseObject({ extractor: extractorName, logits_extractor: extractorName })),
  every_epochs: z.optional(z.int().check(z.gte(1))),
  every_steps: z.optional(z.int().check(z.gte(1))),
  keep_best: z.optional(z.string().check(z.minLength(1))),
  best_directory: z.optional(z.string().check(z.minLength(1))),
  samples: z.optional(z.int().check(z.gte(0), z.lte(10_000))),
  num_inference_steps: z._default(z.int().check(z.gte(1)), 50),
  eta: z.optional(z.number().check(z.gte(0), z.lte(1))),
  guidance_scale: z.optional(z.number()),
  seed: z._default(z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER)), 0),
  device: z._default(z.enum(DEVICES), 'auto'),
  device_id: z.optional(deviceIdOption),
  directory: z.optional(z.string().check(z.minLength(1))),
});

export interface EvaluationCallbackOptions {
  /** Evaluates after each so many epochs, an integer of at least 1, and after the last step. Default 1 without `every_steps`. */
  readonly every_epochs?: number | undefined;
  /** Evaluates after each so many steps instead, an integer of at least 1, and after the last step. Default: by epochs. */
  readonly every_steps?: number | undefined;
  /** Samples in a grid of images or a scatter plot of 2-D points, 0 to 10,000; 0 for none. Default 64 images, 2,000 points. */
  readonly samples?: number | undefined;
  /**
   * Metrics against the training data, with the options of `evaluate`; extractors are given by name. `num_samples` is by
   * default as many as there are training samples, at most 10,000. Default: no metrics.
   */
  readonly metrics?: SnapshotMetrics | undefined;
  /**
   * Modules that register what `metrics` and `scheduler` name: paths from the working directory, `file:` URLs or packages.
   * The process of the evaluations imports them first. Default: what `importModules` or `--import` has imported.
   */
  readonly import?: string | readonly string[] | undefined;
  /** Steps of the reverse process, an integer of at least 1. Default 50. */
  readonly num_inference_steps?: number | undefined;
  /** A scheduler, the JSON config of one, or the class name of a registered one. Default: DDIM with the betas of the run. */
  readonly scheduler?: GivenScheduler | undefined;
  /** Noise that DDIM adds in each step, from 0 (none) to 1 (as much as DDPM). Default: the scheduler's. */
  readonly eta?: number | undefined;
  /** Scale of classifier-free guidance; 1 turns it off. Default: the pipeline's. */
  readonly guidance_scale?: number | undefined;
  /** Seed of the samples, an integer of at least 0. It is the same for every evaluation. Default 0. */
  readonly seed?: number | undefined;
  /** Device on which samples are drawn; training may use the same one. Default 'auto'. */
  readonly device?: Device | undefined;
  /** Which GPU the device `cuda` is, from 0; default: as for `pipeline()`. */
  readonly device_id?: number | undefined;
  /**
   * Keeps the model that was the best by this value of the metrics, such as 'fid', 'kid_mean', 'coverage' or 'density': a
   * pipeline folder with `best.json`, which holds the step, the metric and its value. Of equal ones the first is kept.
   * Default: none is kept.
   */
  readonly keep_best?: string | undefined;
  /** Folder of the best model. Default: `best` in the run's `output_dir`. */
  readonly best_directory?: string | undefined;
  /** Folder of the results. Default: `evaluation` in the run's `output_dir`. */
  readonly directory?: string | undefined;
  /** Called with every finished evaluation. Default: none. */
  readonly on_evaluation?: ((record: EvaluationRecord) => void) | undefined;
  /** Called when an evaluation failed, which does not end the training. Default: `process.emitWarning`. */
  readonly on_warning?: ((message: string) => void) | undefined;
}

const SNAPSHOT = /^\.snapshot-(\d+)$/;
const IMAGES_FILE = '.training-images';

interface ActiveRun {
  readonly directory: string;
  readonly log: EvaluationLog;
  readonly evaluator: SnapshotEvaluator;
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
 * training. A resumed run completes the evaluation that was interrupted.
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
  private readonly settings: z.output<typeof settingsSchema>;
  private run: ActiveRun | undefined;

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
    await this.run?.evaluator.stop();
    this.run = undefined;
    const directory = this.settings.directory ?? path.join(run.output_dir, 'evaluation');
    // A fresh run does not replace what was measured of another one.
    if (global_step === 0 && (await exists(path.join(directory, LOG_FILE))))
      await rename(directory, await freePath(directory));
    await mkdir(directory, { recursive: true });
    await removeLeftovers(directory, () => true);
    const log = await EvaluationLog.open(path.join(directory, LOG_FILE), global_step);
    const best = await this.bestSnapshot(run, global_step);
    const evaluator = await SnapshotEvaluator.start(await this.snapshotSettings(run, directory));
    const lastStep = log.find(global_step) ? global_step : 0;
    const active = { directory, log, evaluator, run, best, current: Promise.resolve(), lastStep };
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
      await evaluator.stop();
      this.run = undefined;
    }
  }

  /** Writes the weights, and starts their evaluation once the one before has ended. */
  private async take({ global_step, epoch }: TrainerState, run: TrainerRun): Promise<void> {
    const active = this.run;
    if (!active) return;
    await active.current;
    await run.saveSnapshot(snapshotPath(active.directory, global_step), { complete: active.best !== undefined });
    await this.evaluate(active, global_step, epoch);
  }

  private async evaluate(active: ActiveRun, step: number, epoch: number): Promise<void> {
    await active.current;
    active.lastStep = step;
    active.current = this.finish(active, step, epoch).catch(async (error: Error) => {
      // The run was interrupted or started again: nobody waits for this evaluation.
      if (this.run !== active) return;
      const warn = this.options.on_warning ?? process.emitWarning;
      warn(`the model of step ${step} was not evaluated: ${error.message}`);
      await rm(snapshotPath(active.directory, step), { recursive: true, force: true });
    });
  }

  private async finish(active: ActiveRun, step: number, epoch: number): Promise<void> {
    const { directory, log, evaluator, run } = active;
    const snapshot = snapshotPath(directory, step);
    const image = path.join(directory, `step-${String(step).padStart(7, '0')}`);
    const { files, report } = await evaluator.run(snapshot, image);
    const record: EvaluationRecord = {
      step,
      epoch: Number(epoch.toFixed(4)),
      files: [...files],
      ...(report ? measured(report) : {}),
    };
    await log.add(record);
    await settle(active, snapshot, record);
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

  private async snapshotSettings({ train_dataset }: TrainerRun, directory: string): Promise<SnapshotSettings> {
    const { num_inference_steps, eta, guidance_scale, seed, device, device_id } = this.settings;
    const images = isImageSet(train_dataset);
    const samples = images ? 'images' : 'points';
    const { metrics, scheduler } = this.options;
    return {
      real: images
        ? await imageSettings(train_dataset, metrics && path.join(directory, IMAGES_FILE))
        : { kind: 'points', points: train_dataset },
      samples: this.settings.samples ?? (images ? 64 : 2000),
      metrics,
      num_inference_steps,
      scheduler: plainScheduler(scheduler),
      eta,
      guidance_scale,
      classes: images ? [...new Set(train_dataset.labels)].sort((a, b) => a - b) : [],
      seed,
      device: deviceOptions(await resolveDevice(device, { samples, device_id })),
      imports: [this.options.import ?? []].flat(),
      registered: registeredHere(metrics),
    };
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

/** The names that the other process must find registered. */
function registeredHere(given: SnapshotMetrics | undefined): SnapshotSettings['registered'] {
  const specs = [given?.extractor, given?.logits_extractor].filter((spec) => spec !== undefined);
  return {
    metrics: (given?.metrics ?? []).filter((name) => metrics.find(name)),
    extractors: specs.map((spec) => splitLayer(spec)[0]).filter((name) => extractors.find(name)),
  };
}

/** The other process measures against a file of the images, which may be too many to send. */
async function imageSettings(set: ImageSet, file: string | undefined): Promise<SnapshotSettings['real']> {
  const { name, count, height, width, channels, labels } = set;
  const images = async function* () {
    for (let i = 0; i < count; i++)
      yield { source: `${i}`, label: labels?.[i], pixels: new Uint8Array(set.pixels(i)), height, width };
  };
  if (file) await writeCacheFile(file, { name, height, width, channels, randomCrop: false }, images());
  return { kind: 'images', file, gridScale: Math.max(1, Math.round(64 / width)) };
}

/** As another process can be given it: a scheduler by its config. */
function plainScheduler(scheduler: GivenScheduler | undefined) {
  if (scheduler === undefined || typeof scheduler === 'string') return scheduler;
  return isScheduler(scheduler) ? scheduler.toConfig() : scheduler;
}

const snapshotPath = (directory: string, step: number) => path.join(directory, `.snapshot-${step}`);

/** The steps of the snapshots in a folder, ascending. */
async function snapshotSteps(directory: string): Promise<number[]> {
  const steps = (await readdir(directory)).flatMap((name) => SNAPSHOT.exec(name)?.[1] ?? []);
  return steps.map(Number).sort((a, b) => a - b);
}
