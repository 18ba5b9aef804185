import path from 'node:path';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import { loadImages } from '../../datasets/index.ts';
import { evaluate } from '../../evaluation/evaluate.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import type { UnconditionalImageGenerationPipeline } from '../../pipelines/image-pipeline.ts';
import { pipeline } from '../../pipelines/pipeline.ts';
import { imageGrid } from '../../plots/index.ts';
import { DDPMScheduler } from '../../schedulers/index.ts';
import { imageModel } from './image-sets.ts';
import {
  type DrawJob,
  GRID_FILE,
  type ImageJob,
  type ImageMeasured,
  type ImageResult,
  imageMetricsSchema,
  JobClock,
  type JobContext,
  samplingSeed,
} from './job.ts';
import { finishTraining, trainJob } from './training.ts';

/** Rough shares of a job's time, and of the time after training; the rest is measuring. */
const TRAINING_SHARE = 0.7;
const DRAWING_SHARE = 0.65;
const IMAGES_FOLDER = 'images';
const GRID_IMAGES = 64;
const GRID_SIDE_PIXELS = 64;

/**
 * Trains the U-Net on images, generates images and measures them, as for the paper's Table 6. Writes `result.json`,
 * `grid.png`, the trained `pipeline/` and the generated `images/` into the folder. A stopped job continues from its last
 * checkpoint, or its last image.
 *
 * @throws `signal.reason` when it was stopped.
 */
export async function runImageJob(
  job: ImageJob,
  folder: string,
  { signal, onProgress }: JobContext,
): Promise<ImageResult> {
  const clock = await JobClock.start(folder);
  const real = await imagesOf(job);
  const training = {
    model: imageModel(job.model, real),
    train_dataset: real,
    noise_scheduler: new DDPMScheduler({ num_train_timesteps: job.num_train_timesteps }),
    args: { random_flip: job.random_flip, use_ema: true },
  };
  const pipelineDir = await trainJob(job, folder, training, clock, {
    signal,
    onProgress: (fraction) => onProgress(TRAINING_SHARE * fraction),
  });
  const generate = await pipeline('unconditional-image-generation', pipelineDir, { device: job.device });
  try {
    const measured = await drawAndMeasure(generate, job, real, folder, {
      signal,
      onProgress: (fraction) => onProgress(TRAINING_SHARE + (1 - TRAINING_SHARE) * fraction),
    });
    return await finishTraining(folder, { job, real_images: real.count, ...measured }, clock);
  } finally {
    await generate.dispose();
  }
}

/** The images that a job trains on. */
export function imagesOf({ source, resolution, data_dir }: ImageJob): Promise<ImageSet> {
  return loadImages(source, { resolution, data_dir: data_dir ?? undefined });
}

/**
 * Draws images into `images/`, from the noise of the job's seed, writes some of them into `grid.png`, and measures them. A
 * stopped job keeps those that it has drawn.
 */
export async function drawAndMeasure(
  generate: UnconditionalImageGenerationPipeline,
  job: ImageJob,
  real: ImageSet,
  folder: string,
  { signal, onProgress, scaling }: JobContext & { readonly scaling?: DrawJob['scaling'] | undefined },
): Promise<Omit<ImageMeasured, 'job' | 'real_images'>> {
  const files = await generate.toFolder(path.join(folder, IMAGES_FOLDER), {
    count: job.samples ?? real.count,
    num_inference_steps: job.num_inference_steps,
    seed: samplingSeed(job),
    on_progress: (fraction) => onProgress(DRAWING_SHARE * fraction),
    signal,
    ...scaling,
  });
  await writeFileAtomic(path.join(folder, GRID_FILE), await gridOf(files, real));
  const onMeasured = (fraction: number) => onProgress(DRAWING_SHARE + (1 - DRAWING_SHARE) * fraction);
  const measured = await measure(job, real, folder, { signal, onProgress: onMeasured });
  return { generated_images: files.length, ...measured };
}

/** Table 6's metrics, on the features of the job's extractor. */
async function measure(
  { extractor, logits_extractor, nearest_k, is_splits, device }: ImageJob,
  real: ImageSet,
  folder: string,
  { signal, onProgress }: JobContext,
): Promise<Pick<ImageResult, 'extractor' | 'logits_extractor' | 'metrics' | 'warnings'>> {
  const report = await evaluate({
    real,
    fake: path.join(folder, IMAGES_FOLDER),
    metrics: ['fid', 'prdc', ...(logits_extractor === null ? [] : ['is'])],
    extractor,
    logits_extractor: logits_extractor ?? undefined,
    nearest_k,
    is_splits,
    // Generated images are in random order already.
    is_shuffle: false,
    device,
    on_progress: (fraction, stage) => {
      if (stage !== 'real' && stage !== 'fake') return;
      onProgress((stage === 'real' ? fraction : 1 + fraction) / 2);
    },
    signal,
  });
  const { fid, is_mean: inception_score = null, precision, recall, density, coverage } = report.metrics;
  const { extractor: features, logits_extractor: logits, warnings = [] } = report;
  return {
    extractor: { name: features.name, checksum: features.checksum },
    logits_extractor: logits ? { name: logits.name, checksum: logits.checksum } : null,
    metrics: imageMetricsSchema.parse({ fid, inception_score, precision, recall, density, coverage }),
    warnings: [...warnings],
  };
}

/** The first images as one PNG. Small ones are enlarged. */
async function gridOf(files: readonly string[], { height, width, channels }: ImageSet): Promise<Uint8Array> {
  const shown = files.slice(0, GRID_IMAGES);
  const { default: sharp } = await import('sharp');
  const colours = channels === 1 ? 'b-w' : 'srgb';
  const pixels = await Promise.all(
    shown.map((file) => sharp(file).toColourspace(colours).removeAlpha().raw().toBuffer()),
  );
  return imageGrid(
    { data: Buffer.concat(pixels), count: shown.length, height, width, channels: channels === 1 ? 1 : 3 },
    { scale: Math.max(1, Math.floor(GRID_SIDE_PIXELS / Math.max(height, width))) },
  );
}
