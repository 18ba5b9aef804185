import path from 'node:path';
import { readNoiseScale } from '../../pipelines/noise-scale.ts';
import { pipeline } from '../../pipelines/pipeline.ts';
import { drawAndMeasure as drawAndMeasureImages, imagesOf } from './image-job.ts';
import {
  type DrawJob,
  type DrawResult,
  environment,
  type ImageJob,
  JobClock,
  type JobContext,
  jobName,
  type PointJob,
  pipelineFolder,
  writeResult,
} from './job.ts';
import { drawAndMeasure as drawAndMeasurePoints, pointsOf } from './point-job.ts';

/**
 * Draws from the model of a finished training job with its predicted noise scaled, from the noise that the job itself drew
 * from, and measures as it did. Writes the samples and `result.json` into the folder.
 *
 * @throws {InvalidArgumentError} when the pipeline is not there, or its isotropy is not known.
 * @throws `signal.reason` when it was stopped.
 */
export async function runDrawJob(job: DrawJob, folder: string, context: JobContext): Promise<DrawResult> {
  const clock = await JobClock.start(folder);
  const trained = pipelineFolder(path.join(path.dirname(folder), jobName(job.model)));
  const drawn =
    job.model.kind === 'points'
      ? await drawPoints(job.model, job.scaling, trained, folder, context)
      : await drawImages(job.model, job.scaling, trained, folder, context);
  const result = { job, ...drawn, timing: clock.elapsed(), environment: environment() };
  await writeResult(folder, result);
  return result;
}

type Drawn = Pick<DrawResult, 'noise_scale' | 'isotropy' | 'metrics' | 'warnings'>;

async function drawPoints(
  model: PointJob,
  scaling: DrawJob['scaling'],
  trained: string,
  folder: string,
  context: JobContext,
): Promise<Drawn> {
  const generate = await pipeline('unconditional-point-generation', trained, { device: model.device });
  try {
    const [noise_scale] = readNoiseScale(scaling, generate.isotropy) ?? [1];
    const real = await pointsOf(model);
    const metrics = await drawAndMeasurePoints(generate, model, real, folder, { ...context, scaling });
    return { noise_scale, isotropy: generate.isotropy?.isotropy ?? null, metrics, warnings: [] };
  } finally {
    await generate.dispose();
  }
}

async function drawImages(
  model: ImageJob,
  scaling: DrawJob['scaling'],
  trained: string,
  folder: string,
  context: JobContext,
): Promise<Drawn> {
  const generate = await pipeline('unconditional-image-generation', trained, { device: model.device });
  try {
    const [noise_scale] = readNoiseScale(scaling, generate.isotropy) ?? [1];
    const real = await imagesOf(model);
    const { metrics, warnings } = await drawAndMeasureImages(generate, model, real, folder, { ...context, scaling });
    return { noise_scale, isotropy: generate.isotropy?.isotropy ?? null, metrics, warnings };
  } finally {
    await generate.dispose();
  }
}
