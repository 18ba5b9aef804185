import { DEVICES, type Device, deviceIdOption } from '../../runtime/device.ts';
import type { GivenScheduler } from '../../schedulers/registry.ts';
import * as z from '../../zod.ts';
import type { EvaluationRecord } from './evaluation-log.ts';
import type { SnapshotMetrics } from './evaluation-process.ts';

const extractorName = z.optional(
  z.string('evaluations run in a process of their own: register the extractor in a module and give its name'),
);
export const settingsSchema = z.object({
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

/** When an `EvaluationCallback` draws and measures, and what it keeps. */
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

/** The options that are plain values, checked, with their defaults. */
export type CheckedOptions = z.output<typeof settingsSchema>;
