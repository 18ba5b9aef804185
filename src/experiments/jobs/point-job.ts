import path from 'node:path';
import { loadPoints } from '../../datasets/index.ts';
import { writeNpyPoints } from '../../datasets/points/point-files.ts';
import { precisionRecallDensityCoverage } from '../../metrics/index.ts';
import { predictedNoiseIsotropy } from '../../metrics/isotropy.ts';
import { ConditionalDense } from '../../models/index.ts';
import { pipeline } from '../../pipelines/pipeline.ts';
import { DDPMScheduler } from '../../schedulers/index.ts';
import { GENERATED_FILE, JobClock, type JobContext, type PointJob, type PointResult, samplingSeed } from './job.ts';
import { finishJob, trainJob } from './training.ts';

/** Rough shares of a job's time; the rest is measuring. */
const TRAINING_SHARE = 0.85;
const SAMPLING_SHARE = 0.12;
const ANALYSED_TIMESTEPS = 21;

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
  const data = await loadPoints(job.dataset, { n: job.points, seed: job.seed });
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
    const { points } = await generate({
      batch_size: job.points,
      num_inference_steps: job.num_inference_steps,
      seed: samplingSeed(job),
      output_type: 'scaled',
      on_progress: (fraction) => onProgress(TRAINING_SHARE + SAMPLING_SHARE * fraction),
      signal,
    });
    await writeNpyPoints(path.join(folder, GENERATED_FILE), points, data.dims);
    const metrics = await precisionRecallDensityCoverage(
      data,
      { data: points, count: job.points, dims: data.dims },
      { nearest_k: job.nearest_k, signal },
    );
    const isotropy = await predictedNoiseIsotropy({
      model: generate.model,
      prediction_type: generate.scheduler.config.prediction_type,
      points: data,
      alphasCumprod: generate.scheduler.alphasCumprod,
      timesteps: analysedTimesteps(job.num_train_timesteps),
      seed: samplingSeed(job),
      signal,
    });
    const predicted_noise = isotropy.map(({ timestep, per_element, mse }) => ({ timestep, per_element, mse }));
    return await finishJob(folder, { job, metrics, predicted_noise }, clock);
  } finally {
    await generate.dispose();
  }
}

/** From 0 to T - 1, evenly spaced. */
function analysedTimesteps(T: number): number[] {
  const count = Math.min(ANALYSED_TIMESTEPS, T);
  return Array.from({ length: count }, (_, i) => Math.round((i * (T - 1)) / (count - 1 || 1)));
}
