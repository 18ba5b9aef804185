import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import type { ImageJob, ImageSettings, JobContext, PointJob, PointSettings } from '../../src/experiments/jobs/job.ts';

/** Trains in a fraction of a second. */
export const tinyPoints: PointSettings = {
  points: 60,
  epochs: 2,
  batch_size: 32,
  learning_rate: 1e-3,
  hidden_features: 8,
  num_train_timesteps: 20,
  num_inference_steps: 5,
  nearest_k: 3,
  device: 'cpu',
};

export const tinyImages: ImageSettings = {
  resolution: 8,
  model: 'tiny',
  epochs: 2,
  batch_size: 8,
  learning_rate: 1e-3,
  random_flip: false,
  num_train_timesteps: 20,
  num_inference_steps: 2,
  samples: 12,
  nearest_k: 3,
  extractor: 'raw-pixels',
  logits_extractor: 'raw-pixels',
  is_splits: 2,
  device: 'cpu',
};

export const pointJob = (changes: Partial<PointJob> = {}): PointJob => ({
  kind: 'points',
  dataset: 'moons',
  lambda: 0.1,
  seed: 3,
  ...tinyPoints,
  ...changes,
});

export const imageJob = (changes: Partial<ImageJob> = {}): ImageJob => ({
  kind: 'images',
  name: 'digits',
  source: 'digits',
  data_dir: null,
  lambda: 0.1,
  seed: 3,
  ...tinyImages,
  ...changes,
});

/** For a job that is run to its end in this process. */
export const undisturbed = (): JobContext => ({ signal: new AbortController().signal, onProgress: () => {} });

/** Writes 24 images of 8x8: squares of one colour each. */
export async function writeSquares(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (let i = 0; i < 24; i++) {
    const background = { r: 10 * i, g: (90 * i) % 256, b: 255 - 10 * i };
    await sharp({ create: { width: 8, height: 8, channels: 3, background } })
      .png()
      .toFile(path.join(folder, `${i}.png`));
  }
}
