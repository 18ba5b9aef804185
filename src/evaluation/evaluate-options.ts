import { z } from 'zod';
import { InvalidArgumentError } from '../errors.ts';
import type { ImageFolderOptions } from '../pipelines/image-folder.ts';
import { DEVICES } from '../runtime/device.ts';
import type { FakeInput, RealInput } from './evaluation-input.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import type { ResolveExtractorOptions } from './extractors/resolve-extractor.ts';

export const METRIC_NAMES = ['fid', 'kid', 'is', 'prdc'] as const;
export type MetricName = (typeof METRIC_NAMES)[number];

/** Images drawn from a pipeline where it was not said how many. */
export const DEFAULT_SAMPLES = 10_000;

const seed = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const side = z.int().min(1).max(8192);

const settingsSchema = z.object({
  metrics: z.array(z.enum(METRIC_NAMES)).min(1).optional(),
  num_samples: z.int().min(2).optional(),
  num_real: z.int().min(2).optional(),
  seed: seed.default(0),
  data_seed: seed.default(0),
  batch_size: z.int().min(1).max(65_536).default(32),
  resolution: z
    .union([side.transform((size) => [size, size] as const), z.tuple([side, side]).readonly()])
    .optional(),
  nearest_k: z.int().min(1).default(5),
  kid_subsets: z.int().min(1).default(100),
  kid_subset_size: z.int().min(2).optional(),
  is_splits: z.int().min(1).default(10),
  device: z.enum(DEVICES).default('auto'),
  cache_dir: z.string().min(1).optional(),
});

/** Numbers and names, checked, with their defaults. */
export type EvaluateSettings = z.output<typeof settingsSchema>;

/**
 * - `metrics`: 'fid' (Fréchet distance), 'kid' (kernel distance), 'is' (Inception Score of the generated images), 'prdc'
 *   (Precision, Recall, Density, Coverage). Default: fid, kid and prdc for images, prdc for points, fid for statistics.
 * - `num_samples`: generated samples, at least 2. Default: all stored ones; 10,000 of a pipeline (of points: as many as real ones).
 * - `num_real`: real ones, a random part of a set of images; default all. Of points the first ones, or so many made;
 *   default `num_samples`.
 * - `seed` (0): of the generated samples, of random parts, of KID's subsets and of the order for the splits.
 * - `data_seed` (0): of made points.
 * - `batch_size` (32): images that are drawn and go through the extractor at a time.
 * - `resolution`: side or [height, width] that stored images are resized to; default: their own, which must be one.
 * - `nearest_k` (5), `kid_subsets` (100), `kid_subset_size` (1,000, or the smaller set), `is_splits` (10).
 * - `device` ('auto'): of pipelines and extractors that are loaded by name.
 * - `cache_dir`: default `$XDG_CACHE_HOME/iso-diffusion` or `~/.cache/iso-diffusion`; statistics of real images lie in its
 *   `statistics` and are found again by the content of the images, the extractor and its preprocessing.
 */
export interface EvaluateOptions extends z.input<typeof settingsSchema> {
  readonly real: RealInput;
  readonly fake: FakeInput;
  /**
   * What makes images comparable: an extractor, which stays the caller's, or a name for `resolveExtractor`, such as
   * 'inception', 'raw-pixels' or 'model.onnx:output'. Default 'inception', whose weights must be there.
   */
  readonly extractor?: FeatureExtractor | string | undefined;
  /** Gives class logits, for 'is'. Default with the extractor 'inception': 'inception:logits_unbiased'. */
  readonly logits_extractor?: FeatureExtractor | string | undefined;
  /** For extractors that are given by name. */
  readonly extractor_options?: Omit<ResolveExtractorOptions, 'image_shape' | 'device'> | undefined;
  /** How a pipeline draws: `num_inference_steps`, `scheduler`, `eta`, and of images `class_labels`, `guidance_scale`. */
  readonly generation?: Pick<
    ImageFolderOptions,
    'num_inference_steps' | 'scheduler' | 'eta' | 'class_labels' | 'guidance_scale'
  >;
  /** Called with the finished fraction of a stage, 0 to 1, and the stage's name. */
  readonly on_progress?: ((fraction: number, stage: EvaluationStage) => void) | undefined;
  /** Told of a damaged cache file and the like; default `process.emitWarning`. */
  readonly on_warning?: ((message: string) => void) | undefined;
  /** Ends the evaluation with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export type EvaluationStage = 'real' | 'fake' | MetricName;

/** @throws {InvalidArgumentError} that lists every wrong option. */
export function checkedSettings(options: EvaluateOptions): EvaluateSettings {
  const parsed = settingsSchema.safeParse(options);
  if (parsed.success) return parsed.data;
  throw new InvalidArgumentError(`wrong options for the evaluation:\n${z.prettifyError(parsed.error)}`);
}
