import { type Fields, functionOption, parseOptions, signalOption } from '../../options.ts';
import { DEVICES, type Device } from '../../runtime/device.ts';
import * as z from '../../zod.ts';
import { IMAGE_MODELS } from '../jobs/job.ts';

/** What `sweep` trains, and where it writes. */
export interface SweepOptions {
  /**
   * 'swiss-roll', 'moons', 's-curve', '8-gaussians' or a file of points, as for `loadPoints`; else images, as for
   * `loadImages`.
   */
  readonly dataset: string;
  /** Folder of the runs and of the report. It is made where there is none. */
  readonly output_dir: string;
  /** Weights of the isotropy penalty, finite and >= 0; 0 is always among them. Default [0, 0.01, 0.05, 0.1, 0.2]. */
  readonly lambda?: readonly number[] | undefined;
  /** Runs of each weight, 1 to 1000; intervals need 2. Default 5. */
  readonly seeds?: number | undefined;
  /** Seed of the first run, a whole number from 0; each further run adds 1. Default 0. */
  readonly seed?: number | undefined;
  /**
   * Trains with weight 0 alone, one model a seed, and draws every other weight from it (docs/theory.md). Default false: every
   * weight is trained, and drawn from the model of weight 0 too.
   */
  readonly at_sampling?: boolean | undefined;
  /** Epochs of a run, at least 1. Default: points 1000, images 100; with `budget_seconds` as many as fit, up to these. */
  readonly num_train_epochs?: number | undefined;
  /** Samples per batch, at least 1. Default: points 512, images 16. */
  readonly per_device_train_batch_size?: number | undefined;
  /** Learning rate, above 0. Default: points 1e-3, images 2e-4. */
  readonly learning_rate?: number | undefined;
  /** Steps of DDPM to draw, 1 to 1000. Default: points 1000, images 250. */
  readonly num_inference_steps?: number | undefined;
  /** Points of a synthetic set, or the first of a file, at least 6. Default: 10,000, or all of a file. */
  readonly n?: number | undefined;
  /** Side of the images in pixels, at least 1. Default 64. */
  readonly resolution?: number | undefined;
  /** The U-Net: 'small' (default), 'ddpm-cifar10', 'ddpm-64' or 'default', or 'tiny', for quick trials. */
  readonly model?: (typeof IMAGE_MODELS)[number] | undefined;
  /** Generated images, at least 6. Default: as many as the set has. */
  readonly samples?: number | undefined;
  /** Features of the images: a name or file for `resolveExtractor`. Default 'inception'. */
  readonly extractor?: string | undefined;
  /** k of Precision, Recall, Density and Coverage, at least 1. Default 5. */
  readonly nearest_k?: number | undefined;
  /** Where models are trained. Default 'cpu', where each run takes one thread. */
  readonly device?: Device | undefined;
  /** Runs at a time, at least 1. Default: on the cpu one a core, else 1. */
  readonly jobs?: number | undefined;
  /** Seconds that all runs may take. Two short trials say how many epochs, or seeds, fit. Default: no limit. */
  readonly budget_seconds?: number | undefined;
  /** This process's share of the seeds, [index, count] with 0 <= index < count. Default [0, 1]: all of them. */
  readonly shard?: readonly [index: number, count: number] | undefined;
  /** Goes on with what is in the folder. Default false: a folder with a sweep is refused. */
  readonly resume?: boolean | undefined;
  /** Called with the finished fraction of all runs, 0 to 1, and the name of the run that moved. Default: none. */
  readonly on_progress?: ((fraction: number, run: string) => void) | undefined;
  /** When it aborts, the runs save checkpoints and `sweep` rejects with its reason. Default: none. */
  readonly signal?: AbortSignal | undefined;
}

const count = z.int().check(z.gte(1));
const weight = z.number().check(z.gte(0), z.refine(Number.isFinite, 'must be finite'));

const sweepSchema = z.strictObject({
  dataset: z.string().check(z.minLength(1)),
  output_dir: z.string().check(z.minLength(1)),
  lambda: z._default(z.array(weight).check(z.minLength(1)), [0, 0.01, 0.05, 0.1, 0.2]),
  seeds: z._default(count.check(z.lte(1000)), 5),
  seed: z._default(z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER - 1000)), 0),
  at_sampling: z._default(z.boolean(), false),
  num_train_epochs: z.optional(count),
  per_device_train_batch_size: z.optional(count),
  learning_rate: z.optional(z.number().check(z.positive(), z.refine(Number.isFinite, 'must be finite'))),
  num_inference_steps: z.optional(count.check(z.lte(1000))),
  n: z.optional(z.int().check(z.gte(6))),
  resolution: z.optional(count),
  model: z.optional(z.enum(IMAGE_MODELS)),
  samples: z.optional(z.int().check(z.gte(6))),
  extractor: z.optional(z.string().check(z.minLength(1))),
  nearest_k: z._default(count, 5),
  device: z._default(z.enum(DEVICES), 'cpu'),
  jobs: z.optional(count),
  budget_seconds: z.optional(z.number().check(z.positive(), z.refine(Number.isFinite, 'must be finite'))),
  shard: z._default(
    z
      .tuple([z.int().check(z.gte(0)), count])
      .check(z.refine(([index, shards]) => index < shards, 'the index must be less than the count')),
    [0, 1],
  ),
  resume: z._default(z.boolean(), false),
  on_progress: z.optional(functionOption<NonNullable<SweepOptions['on_progress']>>()),
  signal: z.optional(signalOption),
} satisfies Fields<SweepOptions>);

export type SweepSettings = z.output<typeof sweepSchema>;

/** @throws {InvalidArgumentError} that names the option, its value and its range. */
export function sweepSettings(options: SweepOptions): SweepSettings {
  const settings = parseOptions(sweepSchema, options, 'options of sweep');
  return { ...settings, lambda: [...new Set([0, ...settings.lambda])].sort((a, b) => a - b) };
}
