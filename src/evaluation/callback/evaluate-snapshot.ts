import path from 'node:path';
import { openCacheFile } from '../../datasets/images/cache-file.ts';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import type { PointSet } from '../../datasets/points/points.ts';
import { FileFormatError } from '../../errors.ts';
import {
  loadUnconditionalImageGeneration,
  type UnconditionalImageGenerationPipeline,
} from '../../pipelines/unconditional-image-generation.ts';
import {
  loadUnconditionalPointGeneration,
  type UnconditionalPointGenerationPipeline,
} from '../../pipelines/unconditional-point-generation.ts';
import { writeImageGrid } from '../../plots/image-grid.ts';
import { evaluate } from '../evaluate.ts';
import { DEFAULT_SAMPLES, type EvaluateOptions } from '../evaluate-options.ts';
import type { EvaluationReport } from '../evaluation-report.ts';
import type { FeatureExtractor } from '../extractors/feature-extractor.ts';
import { resolveExtractor } from '../extractors/resolve-extractor.ts';

/** Images of a training set are read from their file where they are more than this. */
const MAX_MEMORY_BYTES = 2 ** 30;

/** Options of `evaluate` that can be sent to another process: extractors by name. */
export type SnapshotMetrics = Omit<
  EvaluateOptions,
  | 'real'
  | 'fake'
  | 'extractor'
  | 'logits_extractor'
  | 'generation'
  | 'device'
  | 'on_progress'
  | 'on_warning'
  | 'signal'
> & {
  readonly extractor?: string | undefined;
  readonly logits_extractor?: string | undefined;
};

/** All that the evaluations of a run have in common; plain data. */
export interface SnapshotSettings {
  /** The training samples; of images the file that `writeCacheFile` wrote of them, where there are metrics. */
  readonly real:
    | { readonly kind: 'points'; readonly points: PointSet }
    | { readonly kind: 'images'; readonly file: string | undefined; readonly gridScale: number };
  /** Samples in the image; 0 for none. */
  readonly samples: number;
  readonly metrics: SnapshotMetrics | undefined;
  readonly num_inference_steps: number;
  /** A scheduler's config; undefined takes DDIM with the betas of the run. */
  readonly scheduler: Readonly<Record<string, unknown>> | undefined;
  readonly eta: number | undefined;
  readonly guidance_scale: number | undefined;
  /** Classes that a class-conditional model draws in turn. */
  readonly classes: readonly number[];
  readonly seed: number;
  readonly device: NonNullable<EvaluateOptions['device']>;
}

export interface SnapshotResult {
  /** Names of the images that were written, in their folder. */
  readonly files: readonly string[];
  readonly report: EvaluationReport | undefined;
}

type AnyPipeline = UnconditionalImageGenerationPipeline | UnconditionalPointGenerationPipeline;

/** Draws and measures the snapshots of a run, one after another. */
export class SnapshotEvaluation {
  private constructor(
    private readonly settings: SnapshotSettings,
    private readonly images: ImageSet | undefined,
    /** By the names under which they were asked for. */
    private readonly extractors: ReadonlyMap<string, FeatureExtractor>,
  ) {}

  /** Loads what all evaluations need. @throws what `resolveExtractor` throws. */
  static async prepare(settings: SnapshotSettings): Promise<SnapshotEvaluation> {
    const { real, metrics, device } = settings;
    const extractors = new Map<string, FeatureExtractor>();
    const images = real.kind === 'images' && real.file ? await imagesOf(real.file) : undefined;
    if (!images || !metrics) return new SnapshotEvaluation(settings, images, extractors);
    const { extractor, logits_extractor } = extractorNames(metrics);
    const image_shape = {
      height: images.height,
      width: images.width,
      channels: images.channels === 1 ? 1 : 3,
    };
    for (const name of new Set([extractor, logits_extractor])) {
      if (name === undefined) continue;
      const options = { batch_size: metrics.batch_size, ...metrics.extractor_options, device, image_shape };
      extractors.set(name, await resolveExtractor(name, options));
    }
    return new SnapshotEvaluation(settings, images, extractors);
  }

  /** @param image where to write the samples, without extension. */
  async run(snapshot: string, image: string): Promise<SnapshotResult> {
    const { device, real } = this.settings;
    const draw =
      real.kind === 'images'
        ? await loadUnconditionalImageGeneration(snapshot, { device })
        : await loadUnconditionalPointGeneration(snapshot, { device });
    try {
      return { files: await this.draw(draw, image), report: await this.measure(draw) };
    } finally {
      await draw.dispose();
    }
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
    const svg = await scatterPlot({ real: real.points, fake, title: path.basename(image) });
    return (await writePlot(image, svg)).map((file) => path.basename(file));
  }

  private async measure(draw: AnyPipeline): Promise<EvaluationReport | undefined> {
    const { metrics, seed, device } = this.settings;
    const real = this.settings.real.kind === 'points' ? this.settings.real.points : this.images;
    if (!metrics || !real) return undefined;
    const names = extractorNames(metrics);
    const num_samples = metrics.num_samples ?? Math.min(DEFAULT_SAMPLES, real.count);
    return evaluate({
      seed,
      ...metrics,
      extractor: this.extractors.get(names.extractor),
      logits_extractor: this.extractors.get(names.logits_extractor ?? ''),
      device,
      num_samples,
      num_real: metrics.num_real ?? real.count,
      real,
      fake: draw,
      generation: this.generation(draw, num_samples),
    });
  }

  private generation({ model, scheduler: own }: AnyPipeline, count: number) {
    const { num_inference_steps, scheduler, eta, guidance_scale, classes } = this.settings;
    return {
      num_inference_steps,
      scheduler: scheduler ?? { ...own.toConfig(), _class_name: 'DDIMScheduler' },
      eta,
      ...(!model.isClassConditional
        ? {}
        : {
            class_labels: Array.from({ length: count }, (_, i) => classes[i % classes.length] ?? 0),
            guidance_scale,
          }),
    };
  }
}

/** The extractors that the metrics need; the default's classifier is the Inception's. */
function extractorNames({ extractor = 'inception', logits_extractor, metrics = [] }: SnapshotMetrics) {
  const logits = logits_extractor ?? (extractor === 'inception' ? 'inception:logits_unbiased' : undefined);
  return { extractor, logits_extractor: metrics.includes('is') ? logits : undefined };
}

async function imagesOf(file: string): Promise<ImageSet> {
  const images = await openCacheFile(file, MAX_MEMORY_BYTES);
  if (images) return images;
  throw new FileFormatError(`${file}, the images of this training run, was removed or changed`);
}
