import path from 'node:path';
import { loadPoints, type PointSet } from '../../datasets/index.ts';
import { writeNpyPoints } from '../../datasets/points/point-files.ts';
import { precisionRecallDensityCoverage, predictedNoiseIsotropy } from '../../metrics/index.ts';
import { ConditionalDense } from '../../models/index.ts';
import { pipeline } from '../../pipelines/pipeline.ts';
import type { UnconditionalPointGenerationPipeline } from '../../pipelines/points.ts';
import { DDPMScheduler } from '../../schedulers/index.ts';
import {
  analysedTimesteps,
  type DrawJob,
  GENERATED_FILE,
  JobClock,
  type JobContext,
  type PointJob,
  type PointResult,
  samplingSeed,
} from './job.ts';
import { finishTraining, trainJob } from './training.ts';

/** Rough shares of a job's time; the rest is measuring. */
const TRAINING_SHARE = 0.85;
const SAMPLING_SHARE = 0.12;

/**
 * Trains on a point set, generates as many points as it has, and measures them, as in the paper's 2-D experiments. The
 * seed decides the data, the initial weights, the training noise and the samples. Writes `result.json`, `generated.npy`
 * and the trained `pipeline/` into the folder. A stopped job continues from its last checkpoint.
 *
 * @throws `signal.reason` when it was stopped.
 */
export async function runPointJob(
  job: PointJob,
  folder: string,
  { signal, onProgress }: JobContext,
): Promise<PointResult> {
  const clock = await JobClock.start(folder);
  const data = await pointsOf(job);
  const training = {
    model: new ConditionalDense({
      in_features: data.dims,
      hidden_features: job.hidden_features,
      num_train_timesteps: job.num_train_timesteps,
    }),
    train_dataset: data,
    // Clipping would cut off points outside [-1, 1]; the paper's reverse process does not clip.
    noise_scheduler: new DDPMScheduler({ num_train_timesteps: job.num_train_timesteps, clip_sample: false }),
  };
  const pipelineDir = await trainJob(job, folder, training, clock, {
    signal,
    onProgress: (fraction) => onProgress(TRAINING_SHARE * fraction),
  });

  const generate = await pipeline('unconditional-point-generation', pipelineDir, { device: job.device });
  try {
    const metrics = await drawAndMeasure(generate, job, data, folder, {
      signal,
      onProgress: (fraction) => onProgress(TRAINING_SHARE + SAMPLING_SHARE * fraction),
    });
    const isotropy = await predictedNoiseIsotropy({
      model: generate.model,
      prediction_type: generate.scheduler.config.prediction_type,
      points: data,
      alphasCumprod: generate.scheduler.alphasCumprod,
      timesteps: analysedTimesteps(job),
      seed: samplingSeed(job),
      signal,
    });
    const predicted_noise = isotropy.map(({ timestep, per_element, mse }) => ({ timestep, per_element, mse }));
    return await finishTraining(folder, { job, metrics, predicted_noise }, clock);
  } finally {
    await generate.dispose();
  }
}

/** The points that a job trains on. */
export function pointsOf({ dataset, points, seed }: PointJob): Promise<PointSet> {
  return loadPoints(dataset, { n: points ?? undefined, seed });
}

/**
 * Draws as many points as the job trains on, from the noise of its seed, writes them into `generated.npy`, and measures
 * them.
 */
export async function drawAndMeasure(
  generate: UnconditionalPointGenerationPipeline,
  job: PointJob,
  real: PointSet,
  folder: string,
  { signal, onProgress, scaling }: JobContext & { readonly scaling?: DrawJob['scaling'] | undefined },
): Promise<PointResult['metrics']> {
  const { points } = await generate({
    batch_size: real.count,
    num_inference_steps: job.num_inference_steps,
    seed: samplingSeed(job),
    output_type: 'scaled',
    on_progress: onProgress,
    signal,
    ...scaling,
  });
  await writeNpyPoints(path.join(folder, GENERATED_FILE), points, real.dims);
  const fake = { data: points, count: real.count, dims: real.dims };
  return precisionRecallDensityCoverage(real, fake, { nearest_k: job.nearest_k, signal });
}
