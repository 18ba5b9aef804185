import type { EvaluateOptions } from '../../evaluation/options.ts';
import type { MetricName } from '../../metrics/registry.ts';
import { type Fields, functionOption, parseOptions, signalOption } from '../../options.ts';
import { DEVICES, type Device } from '../../runtime/device.ts';
import type { GivenScheduler } from '../../schedulers/registry.ts';
import * as z from '../../zod.ts';

/** What `compareRuns` compares, how it draws and measures, and where it writes. */
export interface CompareOptions {
  /**
   * Folders, at least two: of `train`, of runs of `sweep` and `reproduce` (`OUTPUT/jobs/NAME`), or of pipelines. Changes are
   * against the first run, or against all runs that differ from it in the seed alone.
   */
  readonly runs: readonly string[];
  /** Folder of the report. It is made where there is none. */
  readonly output_dir: string;
  /** Real samples to measure against, as `real` of `evaluate`. Default: none; what the runs themselves measured is shown. */
  readonly dataset?: string | undefined;
  /** Metrics of `evaluate`, with `dataset`. Default: images fid, kid and prdc; points prdc. */
  readonly metrics?: readonly MetricName[] | undefined;
  /** Samples to measure each run with, at least 6. Default: images 10,000; as many points as there are real ones. */
  readonly num_samples?: number | undefined;
  /** Features of images: a name or file for `resolveExtractor`. Default 'inception'. */
  readonly extractor?: string | undefined;
  /** Side in pixels, from 1 to 8,192, that real images are resized to. Default: the side of what the runs draw. */
  readonly resolution?: number | undefined;
  /** k of Precision, Recall, Density and Coverage, at least 1. Default 5. */
  readonly nearest_k?: number | undefined;
  /** Samples in the picture of each run, 0 to 10,000; 0 for none. Default 16 images, 1,000 points. */
  readonly sample_count?: number | undefined;
  /** Steps to draw, at least 1. Default 50. */
  readonly num_inference_steps?: number | undefined;
  /** A scheduler, its JSON config, or the class name of a registered one. Default: DDIM with the betas of each run. */
  readonly scheduler?: GivenScheduler | undefined;
  /** Seed of what is drawn, a whole number from 0; for metrics the seed of the run is added. Default 0. */
  readonly seed?: number | undefined;
  /** Where models run. Default 'auto', the best device there is. */
  readonly device?: Device | undefined;
  /** Called with the finished fraction, 0 to 1, and the run that moved. Default: none. */
  readonly on_progress?: ((fraction: number, run: string) => void) | undefined;
  /** Called with warnings of an evaluation. Default `process.emitWarning`. */
  readonly on_warning?: EvaluateOptions['on_warning'];
  /** When it aborts, `compareRuns` rejects with its reason. Default: none. */
  readonly signal?: AbortSignal | undefined;
}

const count = z.int().check(z.gte(1));

const compareSchema = z
  .strictObject({
    runs: z.array(z.string().check(z.minLength(1))).check(z.minLength(2, 'name at least two runs')),
    output_dir: z.string().check(z.minLength(1)),
    dataset: z.optional(z.string().check(z.minLength(1))),
    metrics: z.optional(z.array(z.string()).check(z.minLength(1))),
    num_samples: z.optional(z.int().check(z.gte(6))),
    extractor: z.optional(z.string().check(z.minLength(1))),
    resolution: z.optional(count.check(z.lte(8192))),
    nearest_k: z.optional(count),
    sample_count: z.optional(z.int().check(z.gte(0), z.lte(10_000))),
    num_inference_steps: z._default(count, 50),
    // Checked where it is opened.
    scheduler: z.optional(z.custom<GivenScheduler>()),
    seed: z._default(z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER / 2)), 0),
    device: z._default(z.enum(DEVICES), 'auto'),
    on_progress: z.optional(functionOption<NonNullable<CompareOptions['on_progress']>>()),
    on_warning: z.optional(functionOption<(message: string) => void>()),
    signal: z.optional(signalOption),
  } satisfies Fields<CompareOptions>)
  .check(
    z.refine(
      ({ dataset, metrics, num_samples, extractor, resolution, nearest_k }) =>
        dataset !== undefined ||
        [metrics, num_samples, extractor, resolution, nearest_k].every((given) => given === undefined),
      'metrics, num_samples, extractor, resolution and nearest_k are for measuring: give a dataset too',
    ),
  );

export type CompareSettings = z.output<typeof compareSchema>;

/** @throws {InvalidArgumentError} that names the option, its value and its range. */
export function compareSettings(options: CompareOptions): CompareSettings {
  return parseOptions(compareSchema, options, 'options of compareRuns');
}
