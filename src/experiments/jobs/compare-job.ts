import path from 'node:path';
import { predictedNoiseRatio } from '../../metrics/index.ts';
import type { PointCloud } from '../../metrics/metric.ts';
import { pipeline } from '../../pipelines/pipeline.ts';
import { RandomStream } from '../../random/random-stream.ts';
import { imageSamples } from '../../trainers/data/samples.ts';
import { imagesOf } from './image-job.ts';
import {
  analysedTimesteps,
  type CompareJob,
  type CompareResult,
  environment,
  JobClock,
  type JobContext,
  jobName,
  pipelineFolder,
  samplingSeed,
  type TrainingJob,
  writeResult,
} from './job.ts';
import { pointsOf } from './point-job.ts';

/** Values of images that are noised at each timestep: more would cost minutes and change no digit that is shown. */
const IMAGE_VALUES = 2 ** 18;

/**
 * Compares the predicted noise of the models of two finished training jobs at `analysedTimesteps`, over the base's data.
 * Writes `result.json` into the folder.
 *
 * @throws {InvalidArgumentError} when a pipeline is not there. @throws `signal.reason` when it was stopped.
 */
export async function runCompareJob(
  job: CompareJob,
  folder: string,
  { signal, onProgress }: JobContext,
): Promise<CompareResult> {
  const clock = await JobClock.start(folder);
  const open = (model: TrainingJob) => openModel(model, path.join(path.dirname(folder), jobName(model)));
  const base = await open(job.base);
  try {
    const model = await open(job.model);
    try {
      const ratios = await predictedNoiseRatio({
        model: model.model,
        base: base.model,
        prediction_type: base.scheduler.config.prediction_type,
        points: await samplesOf(job.base),
        alphasCumprod: base.scheduler.alphasCumprod,
        timesteps: analysedTimesteps(job.base),
        seed: samplingSeed(job.base),
        on_progress: onProgress,
        signal,
      });
      const isotropy = { model: model.isotropy?.isotropy ?? null, base: base.isotropy?.isotropy ?? null };
      const result = { job, isotropy, ratios, timing: clock.elapsed(), environment: environment() };
      await writeResult(folder, result);
      return result;
    } finally {
      await model.dispose();
    }
  } finally {
    await base.dispose();
  }
}

function openModel({ kind, device }: TrainingJob, jobFolder: string) {
  const folder = pipelineFolder(jobFolder);
  return kind === 'points'
    ? pipeline('unconditional-point-generation', folder, { device })
    : pipeline('unconditional-image-generation', folder, { device });
}

/** The training samples in the model's units, one a row; of images as many as `IMAGE_VALUES` allows. */
async function samplesOf(job: TrainingJob): Promise<PointCloud> {
  if (job.kind === 'points') return pointsOf(job);
  const images = await imagesOf(job);
  const samples = imageSamples(images, { random_flip: false });
  const dims = images.channels * images.height * images.width;
  const count = Math.min(samples.count, Math.max(1, Math.floor(IMAGE_VALUES / dims)));
  const data = new Float32Array(count * dims);
  const noRandomness = new RandomStream(job.seed);
  for (let i = 0; i < count; i++) samples.fill(i, data.subarray(i * dims, (i + 1) * dims), noRandomness);
  return { data, count, dims };
}
