// What the models of the runs draw from the same noise, and what is measured of it.
import { loadPoints, type PointSet } from '../../datasets/index.ts';
import { evaluate } from '../../evaluation/evaluate.ts';
import type { EvaluateOptions } from '../../evaluation/options.ts';
import { loadUnconditionalImageGeneration } from '../../pipelines/images.ts';
import { loadUnconditionalPointGeneration } from '../../pipelines/points.ts';
import { imageGrid } from '../../plots/image-grid.ts';
import { commonSquare, type ScatterPanel } from '../../plots/scatter.ts';
import { SAMPLES_PIXELS, scatterPng } from '../figures.ts';
import type { CompareSettings } from './options.ts';
import type { StoredMetrics, StoredRun } from './run.ts';

/** Samples in the picture of a run by default. */
const SAMPLES = { images: 16, points: 1000 } as const;

/** Samples of a run: images as a PNG file, or points with the real ones. */
export type Samples = { readonly png: Uint8Array } | { readonly points: Omit<ScatterPanel, 'title'> };

/** What is made of a run. */
interface DrawnRun {
  /** Undefined where none are wanted, and for points that are not 2-D. */
  readonly samples: Samples | undefined;
  /** Undefined without a data set. */
  readonly measured: StoredMetrics | undefined;
}

type AnyPipeline =
  | Awaited<ReturnType<typeof loadUnconditionalImageGeneration>>
  | Awaited<ReturnType<typeof loadUnconditionalPointGeneration>>;

/**
 * Draws from a run, and measures it.
 *
 * @param withPicture whether samples are shown. @param onProgress the finished fraction, 0 to 1.
 */
export async function drawRun(
  run: StoredRun,
  settings: CompareSettings,
  withPicture: boolean,
  onProgress: (fraction: number) => void,
): Promise<DrawnRun> {
  const { sample_count = SAMPLES[run.task], dataset, device } = settings;
  const wantsPicture = withPicture && sample_count > 0;
  if (!wantsPicture && dataset === undefined) return { samples: undefined, measured: undefined };
  const draw =
    run.task === 'images'
      ? await loadUnconditionalImageGeneration(run.pipeline, { device })
      : await loadUnconditionalPointGeneration(run.pipeline, { device });
  try {
    const samples = wantsPicture ? await drawSamples(draw, run, settings, sample_count) : undefined;
    return { samples, measured: dataset === undefined ? undefined : await measure(draw, run, settings, onProgress) };
  } finally {
    await draw.dispose();
  }
}

function generation({ scheduler, model }: AnyPipeline, run: StoredRun, settings: CompareSettings, count: number) {
  const { num_inference_steps } = settings;
  return {
    num_inference_steps,
    scheduler: settings.scheduler ?? { ...scheduler.toConfig(), _class_name: 'DDIMScheduler' },
    ...(model.isClassConditional
      ? { class_labels: Array.from({ length: count }, (_, i) => i % (run.classes ?? 1)) }
      : {}),
    ...run.scaling,
  };
}

async function drawSamples(
  draw: AnyPipeline,
  run: StoredRun,
  settings: CompareSettings,
  count: number,
): Promise<Samples | undefined> {
  const { seed, signal, dataset } = settings;
  const options = { batch_size: count, seed, signal, ...generation(draw, run, settings, count) };
  if (draw.task === 'unconditional-image-generation') {
    const images = await draw({ ...options, output_type: 'uint8' });
    const columns = Math.ceil(Math.sqrt(count));
    const scale = Math.max(1, Math.round(SAMPLES_PIXELS / (columns * images.width)));
    return { png: await imageGrid(images, { scale }) };
  }
  const { points: data, dims } = await draw(options);
  if (dims[1] !== 2) return undefined;
  const real: PointSet | undefined =
    dataset === undefined ? undefined : await loadPoints(dataset, { n: count, scaling: 'none' });
  return { points: { real, fake: { data, count, dims: 2 } } };
}

/** The samples of runs as PNG files. Points of all runs have the same axes. */
export async function picturesOf<Key>(drawn: ReadonlyMap<Key, Samples>): Promise<Map<Key, Uint8Array>> {
  const sets = [...drawn.values()].flatMap((samples) => ('points' in samples ? [samples.points] : []));
  const axes = sets.length > 0 ? commonSquare(sets.map(({ real, fake }) => real ?? fake)) : undefined;
  const pictures = new Map<Key, Uint8Array>();
  for (const [key, samples] of drawn)
    pictures.set(key, 'png' in samples ? samples.png : await scatterPng(samples.points, axes));
  return pictures;
}

async function measure(
  draw: AnyPipeline,
  run: StoredRun,
  settings: CompareSettings,
  onProgress: (fraction: number) => void,
): Promise<StoredMetrics> {
  const { dataset = '', metrics, num_samples, extractor, nearest_k, device, seed, on_warning, signal } = settings;
  const [, height = 1, width = 1] = 'imageShape' in draw ? draw.imageShape : draw.model.sampleShape;
  const resolution: EvaluateOptions['resolution'] = settings.resolution ?? [height, width];
  const { class_labels: _, ...drawn } = generation(draw, run, settings, 0);
  const report = await evaluate({
    ...{ real: dataset, fake: draw, metrics, num_samples, nearest_k, device, on_warning, signal },
    ...(run.task === 'images' ? { extractor, resolution } : {}),
    seed: seed + (run.seed ?? 0),
    generation: draw.model.isClassConditional ? generation(draw, run, settings, num_samples ?? 10_000) : drawn,
    on_progress: (fraction, stage) => stage === 'fake' && onProgress(fraction),
  });
  return {
    values: report.metrics,
    how: `${report.fake.count} samples against ${report.real.count} of ${report.real.name}, extractor ${report.extractor.name}`,
    warnings: report.warnings ?? [],
  };
}
