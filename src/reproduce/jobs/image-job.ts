import { rm } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import { loadImages } from '../../datasets/index.ts';
import { DatasetError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { isoLoss } from '../../losses/index.ts';
import { pipeline } from '../../pipelines/pipeline.ts';
import { imageGrid } from '../../plots/index.ts';
import { DDPMScheduler } from '../../schedulers/index.ts';
import { Trainer } from '../../trainers/index.ts';
import { imagesOf, type MeasuredImages, measureImages } from '../reports/image-metrics.ts';
import { imageModel } from './image-sets.ts';
import {
  environment,
  GRID_FILE,
  type ImageJob,
  type ImageResult,
  JobClock,
  type JobContext,
  samplingSeed,
  writeResult,
} from './job.ts';
import { followTraining, logAndSave, readTrainingCurve } from './training-curve.ts';

/** Fractions of a job's time, about: training, then sampling. The rest is measuring. */
const TRAINING_SHARE = 0.7;
const SAMPLING_SHARE = 0.2;
const GRID_IMAGES = 64;
const GRID_SIDE_PIXELS = 64;

/**
 * Trains the U-Net on images, draws images and measures them: the set-up of the paper's Table 6. Leaves
 * `result.json`, `grid.png`, the trained `pipeline/` and the generated `images/` in the folder; a job that was stopped
 * goes on from its last checkpoint, or its last image.
 *
 * @throws `signal.reason` when it was stopped.
 */
export async function runImageJob(
  job: ImageJob,
  folder: string,
  { signal, onProgress }: JobContext,
): Promise<ImageResult> {
  const clock = await JobClock.start(folder);
  const real = await loadImages(job.source, {
    resolution: job.resolution,
    ...(job.data_dir === null ? {} : { data_dir: job.data_dir }),
  });
  const trainingDir = path.join(folder, 'training');
  const pipelineDir = path.join(folder, 'pipeline');
  const trainer = newTrainer(job, real, trainingDir, clock, onProgress);
  const { interrupted } = await trainer.train({ resume_from_checkpoint: 'latest', signal });
  if (interrupted) throw signal.reason;
  await trainer.savePipeline(pipelineDir);

  const generated = await drawImages(job, real, folder, pipelineDir, { signal, onProgress });
  await writeFileAtomic(path.join(folder, GRID_FILE), await gridOf(generated));
  const measured = await measureImages(job, imagesOf(real), generated, {
    signal,
    onProgress: (fraction) =>
      onProgress(TRAINING_SHARE + SAMPLING_SHARE + (1 - TRAINING_SHARE - SAMPLING_SHARE) * fraction),
  });
  const result: ImageResult = {
    job,
    real_images: real.count,
    generated_images: generated.count,
    ...measured,
    training: await readTrainingCurve(trainingDir),
    timing: clock.elapsed(),
    environment: environment(),
  };
  await writeResult(folder, result);
  await rm(trainingDir, { recursive: true, force: true });
  return result;
}

function newTrainer(
  job: ImageJob,
  real: ImageSet,
  outputDir: string,
  clock: JobClock,
  onProgress: JobContext['onProgress'],
): Trainer {
  const steps = job.epochs * Math.ceil(real.count / job.batch_size);
  return new Trainer({
    model: imageModel(job.model, real),
    args: {
      output_dir: outputDir,
      num_train_epochs: job.epochs,
      per_device_train_batch_size: job.batch_size,
      learning_rate: job.learning_rate,
      random_flip: job.random_flip,
      use_ema: true,
      seed: job.seed,
      device: job.device,
      ...logAndSave(steps),
    },
    train_dataset: real,
    loss: isoLoss({ lambda: job.lambda }),
    noise_scheduler: new DDPMScheduler({ num_train_timesteps: job.num_train_timesteps }),
    callbacks: [followTraining(clock, (fraction) => onProgress(TRAINING_SHARE * fraction))],
  });
}

/** Draws into `images/`, as PNG files that are kept when the job is stopped, and reads them back as bytes. */
async function drawImages(
  job: ImageJob,
  real: ImageSet,
  folder: string,
  pipelineDir: string,
  { signal, onProgress }: JobContext,
): Promise<MeasuredImages> {
  const generate = await pipeline('unconditional-image-generation', pipelineDir, { device: job.device });
  try {
    const files = await generate.toFolder(path.join(folder, 'images'), {
      count: job.samples ?? real.count,
      num_inference_steps: job.num_inference_steps,
      seed: samplingSeed(job),
      on_progress: (fraction) => onProgress(TRAINING_SHARE + SAMPLING_SHARE * fraction),
      signal,
    });
    const { height, width, channels } = real;
    const images = await Promise.all(
      files.map(
        async (file) =>
          await sharp(file)
            .toColourspace(channels === 1 ? 'b-w' : 'srgb')
            .raw()
            .toBuffer(),
      ),
    );
    return {
      count: images.length,
      image: (index) => ({ data: images[index] ?? new Uint8Array(), height, width, channels }),
    };
  } finally {
    await generate.dispose();
  }
}

/** The first images as one PNG, small ones enlarged. */
async function gridOf({ count, image }: MeasuredImages): Promise<Buffer> {
  const shown = Array.from({ length: Math.min(GRID_IMAGES, count) }, (_, i) => image(i));
  const [first] = shown;
  if (!first) throw new DatasetError('there are no images to show');
  const { height, width, channels } = first;
  return imageGrid(
    {
      data: Buffer.concat(shown.map(({ data }) => data)),
      count: shown.length,
      height,
      width,
      channels: channels === 1 ? 1 : 3,
    },
    { scale: Math.max(1, Math.floor(GRID_SIDE_PIXELS / Math.max(height, width))) },
  );
}
