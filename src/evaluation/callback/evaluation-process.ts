/**
 * The process behind `SnapshotEvaluator`: draws and measures the snapshots of a training run.
 */

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { openCacheFile } from '../../datasets/images/cache-file.ts';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import type { PointSet } from '../../datasets/points/points.ts';
import { FileFormatError, InvalidArgumentError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { concatenated } from '../../graph/types.ts';
import { metrics as knownMetrics } from '../../metrics/registry.ts';
import type { UnconditionalImageGenerationPipeline } from '../../pipelines/image-pipeline.ts';
import { loadUnconditionalImageGeneration } from '../../pipelines/images.ts';
import { loadUnconditionalPointGeneration, type UnconditionalPointGenerationPipeline } from '../../pipelines/points.ts';
import { writeImageGrid } from '../../plots/image-grid.ts';
import type { Registry } from '../../registry.ts';
import { serve } from '../../threads/channel.ts';
import { importModules } from '../../threads/imported-modules.ts';
import { chooseMetrics, neededForms } from '../chosen-metrics.ts';
import { evaluateShareWith, evaluateWith, mergeEvaluation } from '../evaluate.ts';
import type { FeatureExtractor } from '../extractors/feature-extractor.ts';
import { extractors as knownExtractors, resolveExtractor } from '../extractors/registry.ts';
import type { FoundForms } from '../image-features.ts';
import type { Share } from '../image-sources.ts';
import {
  checkedSettings,
  DEFAULT_METRICS,
  DEFAULT_SAMPLES,
  type EvaluateOptions,
  type EvaluationReport,
  logitsExtractorOf,
} from '../options.ts';

/** Larger sets of training images are read from their file. */
const MAX_MEMORY_BYTES = 2 ** 30;

/** Points of each kind in a scatter plot: a run may write many of them. */
const SCATTER_POINTS = 2000;

/** Options of `evaluate` that can be sent to another process: extractors by name. */
export type SnapshotMetrics = Omit<
  EvaluateOptions,
  | 'real'
  | 'fake'
  | 'extractor'
  | 'logits_extractor'
  | 'generation'
  | 'device'
  | 'device_id'
  | 'on_progress'
  | 'on_warning'
  | 'signal'
> & {
  /** The name of a registered extractor, or the path of an ONNX file. Default: as for `evaluate`. */
  readonly extractor?: string | undefined;
  /** The extractor of class logits, by name or path. Default: as for `evaluate`. */
  readonly logits_extractor?: string | undefined;
};

/** Settings of all evaluations of a run, as plain data. */
export interface SnapshotSettings {
  /** The training samples. Images are in the file that `writeCacheFile` wrote, if there are metrics. */
  readonly real:
    | { readonly kind: 'points'; readonly points: PointSet }
    | { readonly kind: 'images'; readonly file: string | undefined; readonly gridScale: number };
  /** The file of what the model is given beside the samples, where it takes that. */
  readonly conditions: string | undefined;
  /** Samples in the image; 0 for none. */
  readonly samples: number;
  readonly metrics: SnapshotMetrics | undefined;
  readonly num_inference_steps: number;
  /** A scheduler's config or class name; undefined takes DDIM with the betas of the run. */
  readonly scheduler: Readonly<Record<string, unknown>> | string | undefined;
  readonly eta: number | undefined;
  readonly guidance_scale: number | undefined;
  /** Classes that a class-conditional model draws in turn. */
  readonly classes: readonly number[];
  readonly seed: number;
  readonly device: { readonly device: NonNullable<EvaluateOptions['device']>; readonly device_id?: number };
  /** Modules that this process imports first; they register what the settings name. */
  readonly imports: readonly string[];
  /** The metrics and extractors among the settings that are registered in the training process. */
  readonly registered: { readonly metrics: readonly string[]; readonly extractors: readonly string[] };
}

export interface SnapshotResult {
  /** Names of the images that were written, in their folder. */
  readonly files: readonly string[];
  readonly report: EvaluationReport | undefined;
}

export type EvaluatorRequest =
  | { readonly kind: 'prepare'; readonly settings: SnapshotSettings }
  | { readonly kind: 'run'; readonly snapshot: string; readonly image: string }
  | { readonly kind: 'share'; readonly snapshot: string; readonly share: Share; readonly files: ShareFiles }
  | { readonly kind: 'merge'; readonly files: readonly ShareFiles[]; readonly image: string };

/** The files of a rank's share of a snapshot of images. */
export interface ShareFiles {
  /** What the metrics need; absent without metrics. */
  readonly part: string;
  /** The bytes of the images to show, one after another; absent where none is shown. */
  readonly samples: string;
}

type AnyPipeline = UnconditionalImageGenerationPipeline | UnconditionalPointGenerationPipeline;

interface LoadedExtractors {
  readonly extractor?: FeatureExtractor | undefined;
  readonly logits_extractor?: FeatureExtractor | undefined;
  /** Those that metrics are defined for, by their names. */
  readonly own?: ReadonlyMap<string, FeatureExtractor> | undefined;
}

/** Draws and measures the snapshots of a run, one after another. */
class SnapshotEvaluation {
  /** What the first share found of the training images, which stay the same. */
  private readonly ofReal: FoundForms = {};
  private sampleShape: readonly number[] = [];

  private constructor(
    private readonly settings: SnapshotSettings,
    private readonly images: ImageSet | undefined,
    private readonly conditions: ImageSet | undefined,
    private readonly extractors: LoadedExtractors,
  ) {}

  /**
   * Loads what all evaluations need.
   *
   * @throws {InvalidArgumentError} for wrong options of the metrics, and what `resolveExtractor` throws.
   */
  static async prepare(settings: SnapshotSettings): Promise<SnapshotEvaluation> {
    const { real, metrics, device } = settings;
    await importModules(settings.imports);
    refuseUnregistered('metric', settings.registered.metrics, knownMetrics);
    refuseUnregistered('extractor', settings.registered.extractors, knownExtractors);
    const images = real.kind === 'images' && real.file ? await imagesOf(real.file) : undefined;
    const conditions = settings.conditions === undefined ? undefined : await imagesOf(settings.conditions);
    if (!metrics) return new SnapshotEvaluation(settings, images, conditions, {});
    const chosen = chooseMetrics(checkedSettings(metrics).metrics ?? DEFAULT_METRICS[real.kind], metrics);
    if (!images) return new SnapshotEvaluation(settings, images, conditions, {});
    const image_shape = { height: images.height, width: images.width, channels: images.channels === 1 ? 1 : 3 };
    const options = { batch_size: metrics.batch_size, ...metrics.extractor_options, ...device, image_shape };
    const isShared = chosen.some(({ metric }) => metric.extractor === undefined);
    const extractor = isShared ? await resolveExtractor(metrics.extractor ?? 'inception', options) : undefined;
    const logits = neededForms(chosen, 'real', 'fake').has('logits') && logitsExtractorOf<never>(metrics);
    const logits_extractor = logits ? await resolveExtractor(logits, options) : undefined;
    const own = new Map<string, FeatureExtractor>();
    for (const { metric } of chosen)
      if (metric.extractor !== undefined && !own.has(metric.extractor))
        // A metric's own extractor has its own preprocessing.
        own.set(metric.extractor, await resolveExtractor(metric.extractor, { ...options, preprocessing: undefined }));
    return new SnapshotEvaluation(settings, images, conditions, { extractor, logits_extractor, own });
  }

  /** @param image where to write the samples, without extension. */
  async run(snapshot: string, image: string): Promise<SnapshotResult> {
    const { device, real } = this.settings;
    const draw =
      real.kind === 'images'
        ? await loadUnconditionalImageGeneration(snapshot, device)
        : await loadUnconditionalPointGeneration(snapshot, device);
    try {
      return { files: await this.draw(draw, image), report: await this.measure(draw) };
    } finally {
      await draw.dispose();
    }
  }

  /** Of images: a share of the samples to show, and of what the metrics need. */
  async share(snapshot: string, share: Share, { part, samples: file }: ShareFiles): Promise<void> {
    const { samples: count, seed } = this.settings;
    const draw = await loadUnconditionalImageGeneration(snapshot, this.settings.device);
    try {
      this.sampleShape = draw.model.sampleShape;
      if (count > 0) {
        const drawn: Uint8Array[] = [];
        const options = { count, seed, share, ...this.generation(draw, count) };
        for await (const { data } of draw.batches(options)) drawn.push(data);
        await writeFileAtomic(file, drawn);
      }
      const { options, own } = this.evaluation(draw) ?? {};
      if (options) await evaluateShareWith(options, share, part, { kept: own, ofReal: this.ofReal });
    } finally {
      await draw.dispose();
    }
  }

  /** @param files of all shares, in their order. @param image where to write the samples, without extension. */
  async merge(files: readonly ShareFiles[], image: string): Promise<SnapshotResult> {
    const { samples, real, metrics } = this.settings;
    const report = metrics ? await mergeEvaluation(files.map(({ part }) => part)) : undefined;
    if (samples === 0) return { files: [], report };
    const [channels = 1, height = 1, width = 1] = this.sampleShape;
    const data = concatenated(await Promise.all(files.map(async (one) => new Uint8Array(await readFile(one.samples)))));
    const scale = real.kind === 'images' ? real.gridScale : 1;
    await writeImageGrid(`${image}.png`, { data, count: samples, height, width, channels }, { scale });
    return { files: [path.basename(`${image}.png`)], report };
  }

  private async draw(draw: AnyPipeline, image: string): Promise<string[]> {
    const { samples, seed, real } = this.settings;
    if (samples === 0) return [];
    const options = { batch_size: samples, seed, ...this.generation(draw, samples) };
    if (draw.task === 'unconditional-image-generation') {
      const images = await draw({ ...options, output_type: 'uint8' });
      const scale = real.kind === 'images' ? real.gridScale : 1;
      await writeImageGrid(`${image}.png`, images, { scale });
      return [path.basename(`${image}.png`)];
    }
    if (real.kind !== 'points' || real.points.dims !== 2) return [];
    const { points, dims } = await draw({ ...options, output_type: 'scaled' });
    const fake = { data: points, count: dims[0], dims: dims[1] };
    // Half a second to load, which only points need.
    const { scatterPlot, writePlot } = await import('../../plots/index.ts');
    const scatter = { real: real.points, fake, title: path.basename(image) };
    const svg = await scatterPlot(scatter, { max_points: SCATTER_POINTS });
    return (await writePlot(image, svg)).map((file) => path.basename(file));
  }

  private async measure(draw: AnyPipeline): Promise<EvaluationReport | undefined> {
    const { options, own = new Map() } = this.evaluation(draw) ?? {};
    return options && evaluateWith(options, own);
  }

  /** The options of `evaluate` for a snapshot, with the extractors of metrics; undefined without metrics. */
  private evaluation(draw: AnyPipeline) {
    const { metrics, seed, device } = this.settings;
    const real = this.settings.real.kind === 'points' ? this.settings.real.points : this.images;
    if (!metrics || !real) return undefined;
    const num_samples = metrics.num_samples ?? Math.min(DEFAULT_SAMPLES, real.count);
    const { own = new Map(), ...extractors } = this.extractors;
    const options: EvaluateOptions = {
      seed,
      ...metrics,
      ...extractors,
      ...device,
      num_samples,
      num_real: metrics.num_real ?? real.count,
      real,
      fake: draw,
      generation: this.generation(draw, num_samples),
    };
    return { options, own };
  }

  private generation({ model, scheduler: own }: AnyPipeline, count: number) {
    const { num_inference_steps, scheduler, eta, guidance_scale, classes } = this.settings;
    return {
      num_inference_steps,
      scheduler: scheduler ?? { ...own.toConfig(), _class_name: 'DDIMScheduler' },
      eta,
      ...(this.conditions ? { condition: inTurn(this.conditions, count) } : {}),
      ...(!model.isClassConditional
        ? {}
        : {
            class_labels: Array.from({ length: count }, (_, i) => classes[i % classes.length] ?? 0),
            guidance_scale,
          }),
    };
  }
}

/** So many images of a set, which begins anew where it has fewer. */
function inTurn(set: ImageSet, count: number): ImageSet {
  return { ...set, count, labels: undefined, pixels: (index) => set.pixels(index % set.count) };
}

/** @throws {InvalidArgumentError} for a name that only the training process knows. */
function refuseUnregistered(kind: string, names: readonly string[], registry: Registry<unknown>): void {
  const missing = names.find((name) => registry.find(name) === undefined);
  if (missing === undefined) return;
  throw new InvalidArgumentError(
    `the ${kind} '${missing}' is registered in the training process only, but evaluations run in a process of their own: give the module that registers it as the callback's 'import'`,
  );
}

async function imagesOf(file: string): Promise<ImageSet> {
  const images = await openCacheFile(file, MAX_MEMORY_BYTES);
  if (images) return images;
  throw new FileFormatError(`${file}, the images of this training run, was removed or changed`);
}

let evaluation: SnapshotEvaluation | undefined;

serve<EvaluatorRequest, SnapshotResult>(async (request) => {
  if (request.kind === 'prepare') {
    evaluation = await SnapshotEvaluation.prepare(request.settings);
    return { files: [], report: undefined };
  }
  if (!evaluation) throw new Error('there are no settings yet');
  if (request.kind === 'merge') return evaluation.merge(request.files, request.image);
  if (request.kind === 'run') return evaluation.run(request.snapshot, request.image);
  await evaluation.share(request.snapshot, request.share, request.files);
  return { files: [], report: undefined };
});
