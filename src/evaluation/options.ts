import type { ImageSet, SkippedImage } from '../datasets/images/image-set.ts';
import type { PointSet } from '../datasets/points/points.ts';
import type { GaussianStatistics } from '../metrics/frechet/statistics.ts';
import type { MetricOptions } from '../metrics/metric.ts';
import { type BuiltInMetricOptions, type MetricName, metrics } from '../metrics/registry.ts';
import { functionOption, parseOptions, signalOption } from '../options.ts';
import type { ImageFolderOptions, UnconditionalImageGenerationPipeline } from '../pipelines/image-pipeline.ts';
import type { UnconditionalPointGenerationPipeline } from '../pipelines/points.ts';
import { nearestName } from '../registry.ts';
import { DEVICES, type Device, deviceIdOption } from '../runtime/device.ts';
import * as z from '../zod.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import type { ResolveExtractorOptions } from './extractors/registry.ts';

/** Images drawn from a pipeline by default. */
export const DEFAULT_SAMPLES = 10_000;

/** The default metrics for each kind of samples. */
export const DEFAULT_METRICS = {
  images: ['fid', 'kid', 'prdc'],
  points: ['prdc'],
  statistics: ['fid'],
} as const satisfies Record<string, readonly MetricName[]>;

const seed = z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER));
const side = z.int().check(z.gte(1), z.lte(8192));
/** How images become features, for `evaluate` and `imageStatistics`. */
export const extractionFields = {
  batch_size: z._default(z.int().check(z.gte(1), z.lte(65_536)), 32),
  resolution: z.optional(
    z.union([
      z.pipe(
        side,
        z.transform((size) => [size, size] as const),
      ),
      z.readonly(z.tuple([side, side])),
    ]),
  ),
  strict: z._default(z.boolean(), false),
  device: z._default(z.enum(DEVICES), 'auto'),
  device_id: z.optional(deviceIdOption),
  // Only checked here; they are used as they were given.
  extractor: z.optional(
    z.custom<FeatureExtractor | string>(isExtractor, 'must be a feature extractor, or the name of one'),
  ),
  logits_extractor: z.optional(
    z.custom<FeatureExtractor | string>(isExtractor, 'must be a feature extractor, or the name of one'),
  ),
  on_progress: z.optional(functionOption<(...progress: never[]) => void>()),
  on_warning: z.optional(functionOption<(message: string) => void>()),
  signal: z.optional(signalOption),
};

function isExtractor(given: unknown): boolean {
  if (typeof given === 'string') return true;
  return typeof given === 'object' && given !== null && typeof Reflect.get(given, 'extract') === 'function';
}

const metricName = z.string().check(
  z.refine((name) => metrics.find(name) !== undefined, {
    error: ({ input }) => {
      const nearest = nearestName(String(input), metrics.names());
      const advice = nearest === undefined ? '' : `; did you mean '${nearest}'?`;
      return `'${input}' is not a metric: use ${metrics.names().join(', ')}, or register your own${advice}`;
    },
  }),
);

const settingsSchema = z.object({
  ...extractionFields,
  split: z.optional(z.string().check(z.minLength(1))),
  fake_split: z.optional(z.string().check(z.minLength(1))),
  dataset_config_name: z.optional(z.string().check(z.minLength(1))),
  dataset_revision: z.optional(z.string().check(z.minLength(1))),
  metrics: z.optional(z.array(metricName).check(z.minLength(1))),
  num_samples: z.optional(z.int().check(z.gte(2))),
  num_real: z.optional(z.int().check(z.gte(2))),
  seed: z._default(seed, 0),
  data_seed: z._default(seed, 0),
  cache_dir: z.optional(z.string().check(z.minLength(1))),
  contact_sheets: z.optional(z.string().check(z.minLength(1))),
});

/** Options of an evaluation, checked, with their defaults; those of metrics are with the metrics. */
export type EvaluateSettings = z.output<typeof settingsSchema>;

/** Real samples: a path or a name, a loaded set, or statistics of features. */
export type RealInput = string | ImageSet | PointSet | GaussianStatistics;
/** Generated samples: what real ones can be, or a saved or loaded pipeline. */
export type FakeInput = RealInput | UnconditionalImageGenerationPipeline | UnconditionalPointGenerationPipeline;

/** How images become features; shared by `evaluate` and `imageStatistics`. */
export interface ExtractionOptions {
  /**
   * What makes images comparable: an extractor, which stays the caller's, or a name for `resolveExtractor`, such as
   * 'inception', 'raw-pixels', 'model.onnx:output' or a registered one. Default 'inception', whose weights are fetched once (96 MB).
   */
  readonly extractor?: FeatureExtractor | string | undefined;
  /** For extractors that are given by name. Default: those of `resolveExtractor`. */
  readonly extractor_options?: Omit<ResolveExtractorOptions, 'image_shape' | 'device' | 'device_id'> | undefined;
  /** Images per batch of drawing and of the extractor, from 1 to 65,536. Default 32. */
  readonly batch_size?: number | undefined;
  /**
   * Side or [height, width] in pixels, each from 1 to 8,192, that stored images are resized to. Default: their own size,
   * which must be the same for all.
   */
  readonly resolution?: number | readonly [height: number, width: number] | undefined;
  /** Refuses stored images of which one cannot be read. Default false: they are left out, with a warning. */
  readonly strict?: boolean | undefined;
  /** Device of the pipelines and extractors that are loaded by name. Default 'auto'. */
  readonly device?: Device | undefined;
  /** Which GPU the device `cuda` is, from 0; default: as for `pipeline()`. */
  readonly device_id?: number | undefined;
}

/** The options of `evaluate`, the options of the built-in metrics among them. */
export interface EvaluateOptions extends ExtractionOptions, BuiltInMetricOptions {
  /** Real samples: see `RealInput`. */
  readonly real: RealInput;
  /** Generated samples: see `FakeInput`. */
  readonly fake: FakeInput;
  /** Which split of the real images, as for `loadImages`. Default 'train', with a warning that names the others. */
  readonly split?: string | undefined;
  /** Which split of the generated images, for instance to compare two splits of one set. Default as for `split`. */
  readonly fake_split?: string | undefined;
  /** Of real images of the Hub: the configuration, as for `loadImages`. Default: the only or default one. */
  readonly dataset_config_name?: string | undefined;
  /** Of real images of the Hub: a branch, tag or commit. Default 'main'. */
  readonly dataset_revision?: string | undefined;
  /**
   * Names of `metrics`: 'fid' (Fréchet distance), 'kid' (kernel distance), 'is' (Inception Score of the generated images),
   * 'prdc' (Precision, Recall, Density, Coverage), 'fd-dinov2' (Fréchet distance of DINOv2's features), 'cmmd' (CLIP's
   * kernel distance), or one that was registered. Default: fid, kid and prdc for images, prdc for points, fid for
   * statistics.
   */
  readonly metrics?: readonly MetricName[] | undefined;
  /** Options of registered metrics, by name. Default: the metrics' own defaults. */
  readonly metric_options?: MetricOptions | undefined;
  /**
   * Generated samples, at least 2. Default: all stored ones; 10,000 images of a pipeline, or as many points as there are
   * real ones.
   */
  readonly num_samples?: number | undefined;
  /**
   * Real samples, at least 2: a random part of a set of images, or the first points of a set. Default: all images, and
   * `num_samples` points.
   */
  readonly num_real?: number | undefined;
  /**
   * Seed of the generated samples, of random parts, of KID's subsets and of the order for the Inception Score's splits: an
   * integer of at least 0. Default 0.
   */
  readonly seed?: number | undefined;
  /** Seed of synthetic real points, an integer of at least 0. Default 0. */
  readonly data_seed?: number | undefined;
  /**
   * Folder of downloads and, in its `statistics`, of statistics of real images, which are found again by the content of the
   * images, the extractor and its preprocessing. Default `$XDG_CACHE_HOME/iso-diffusion`, else `~/.cache/iso-diffusion`.
   */
  readonly cache_dir?: string | undefined;
  /** Gives class logits, for 'is'. Default 'inception:logits_unbiased' where the extractor is 'inception', else none. */
  readonly logits_extractor?: FeatureExtractor | string | undefined;
  /**
   * How a pipeline draws: `num_inference_steps`, `scheduler`, `eta`, `iso_lambda`, `noise_scale`, and for images
   * `class_labels`, `guidance_scale`, and `condition`, of which sample i takes image i. Default: the pipeline's own defaults.
   */
  readonly generation?:
    | Pick<
        ImageFolderOptions,
        | 'num_inference_steps'
        | 'scheduler'
        | 'eta'
        | 'iso_lambda'
        | 'noise_scale'
        | 'class_labels'
        | 'guidance_scale'
        | 'condition'
      >
    | undefined;
  /**
   * Folder to write pictures of what went wrong into, with `contact-sheets.json` beside them: real samples that no generated
   * one covers, generated ones outside the real manifold, and the best and the closest ones beside their five nearest real
   * ones. Of 2-D points it is a scatter. Needs the metric 'prdc', and the training images as `real`. Default: none.
   */
  readonly contact_sheets?: string | undefined;
  /** Called with the finished fraction of a stage, 0 to 1, and the stage's name. Default: none. */
  readonly on_progress?: ((fraction: number, stage: EvaluationStage) => void) | undefined;
  /** Called with warnings, for instance of a damaged cache file. Default `process.emitWarning`. */
  readonly on_warning?: ((message: string) => void) | undefined;
  /** Ends the evaluation with the signal's reason. Default: none. */
  readonly signal?: AbortSignal | undefined;
}

/** The stage: the download of an extractor, the samples of one side, the name of a metric, or the contact sheets. */
export type EvaluationStage = 'weights' | 'real' | 'fake' | 'contact-sheets' | MetricName;

/** @throws {InvalidArgumentError} that lists every wrong option. */
export function checkedSettings(options: Partial<EvaluateOptions>): EvaluateSettings {
  return parseOptions(settingsSchema, options, 'options for the evaluation');
}

/** The extractor of class logits: by default Inception's own classifier, where Inception gives the features. */
export function logitsExtractorOf<Extractor>({
  extractor = 'inception',
  logits_extractor,
}: {
  readonly extractor?: Extractor | string | undefined;
  readonly logits_extractor?: Extractor | string | undefined;
}): Extractor | string | undefined {
  return logits_extractor ?? (extractor === 'inception' ? 'inception:logits_unbiased' : undefined);
}

/** One side of an evaluation. */
export interface EvaluatedSet {
  /** The path or the name that was given, or that of the loaded set. */
  readonly name: string;
  /** Undefined for a file of statistics that does not say. */
  readonly count: number | undefined;
  /** What was left out of stored images, and why; undefined where nothing was. */
  readonly skipped?: readonly SkippedImage[] | undefined;
}

/** The extractor that made the features. Results of different extractors cannot be compared. */
export interface ReportedExtractor {
  /** Its name, such as 'inception'. */
  readonly name: string;
  /** SHA-256 in hex of its weights, or of its definition. */
  readonly checksum: string;
  /** Length of a feature vector. */
  readonly dims: number;
}

/** What contact sheets of an evaluation show. */
export interface ReportedContactSheets {
  /** The paths of the files that were written. */
  readonly files: readonly string[];
  /** Real samples without a generated one in their radius, the distance to their nearest_k-th nearest real one. */
  readonly uncovered: number;
  /** Generated samples within no radius of a real one. */
  readonly outside: number;
  /** Generated samples that equal a real one. */
  readonly copied: number;
  /** Others that are closer to a real one than 99% of new samples would be; of new ones, about 1% are. */
  readonly memorised: number;
}

/** The outcome of `evaluate`, plain JSON. */
export interface EvaluationReport {
  /**
   * The values of the metrics that were asked for: `fid`; `kid_mean`, `kid_std`; `is_mean`, `is_std`; `precision`, `recall`,
   * `density`, `coverage`; `fd_dinov2`; `cmmd`; and what registered ones return.
   */
  readonly metrics: Readonly<Record<string, number>>;
  /** The real samples: their name and number. */
  readonly real: EvaluatedSet;
  /** The generated samples. */
  readonly fake: EvaluatedSet;
  /** The extractor of the features; for points, their coordinates. */
  readonly extractor: ReportedExtractor;
  /** The extractors of metrics that are defined for one, by the metric's name; undefined where there are none. */
  readonly metric_extractors?: Readonly<Record<string, ReportedExtractor>> | undefined;
  /** The extractor of the class logits, where a metric needed them. */
  readonly logits_extractor?: ReportedExtractor | undefined;
  /** The settings that the values depend on: `seed`, and the options of the metrics. */
  readonly settings: Readonly<Record<string, number | string | boolean>>;
  /** What the values must not be taken for, one sentence each; undefined where nothing is to be said. */
  readonly warnings?: readonly string[] | undefined;
  /** The contact sheets, where they were asked for. */
  readonly contact_sheets?: ReportedContactSheets | undefined;
}

export function reportedExtractor({ name, checksum, dims }: FeatureExtractor): ReportedExtractor {
  return { name, checksum, dims };
}
