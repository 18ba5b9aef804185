import path from 'node:path';
import { applyScaler, loadImages, loadPoints } from '../../datasets/index.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { stringifySorted } from '../../files/json.ts';
import { isFile } from '../../files/regular-file.ts';
import { readPipelineFolder } from '../../hub/open-pretrained.ts';
import { type IsotropyFile, pipelineFiles } from '../../hub/pipeline-folder.ts';
import type { UnconditionalImageGenerationPipeline } from '../../pipelines/image-pipeline.ts';
import { pipeline } from '../../pipelines/pipeline.ts';
import type { Device } from '../../runtime/device.ts';
import { BatchStream } from '../../trainers/data/batch-stream.ts';
import { LatentSamples } from '../../trainers/data/latents.ts';
import { imageSamples, pointSamples, type Samples } from '../../trainers/data/samples.ts';
import { measureIsotropy, squaredNoiseOf } from '../../trainers/isotropy.ts';
import { modelNamed } from '../options/saved-model.ts';

export interface IsotropySettings {
  readonly dataset: string;
  readonly n: number | undefined;
  readonly data_seed: number;
  readonly seed: number;
  readonly device: Device;
  /** lambda of the training; undefined: what the folder says, else 0. */
  readonly trained_lambda: number | undefined;
}

/**
 * Measures the isotropy of a saved model over a data set, and writes it beside the weights that `pipeline()` takes, for
 * `iso_lambda`.
 *
 * @returns the file, and what it says.
 * @throws {InvalidArgumentError} when the model is an ONNX file alone, or the data does not fit it.
 */
export async function saveIsotropy(
  name: string,
  settings: IsotropySettings,
): Promise<{ file: string; isotropy: IsotropyFile }> {
  const model = await modelNamed(name);
  if (await isFile(model.path))
    throw new InvalidArgumentError(`--save writes into the folder of a pipeline, but '${name}' is a file`);
  const { paths, emaPaths } = await readPipelineFolder(model.path, { require: [] });
  const file = path.join(path.dirname((emaPaths ?? paths).onnx), pipelineFiles.isotropy);
  const { device } = settings;
  const generate =
    model.kind === 'points'
      ? await pipeline('unconditional-point-generation', model.path, { device })
      : await pipeline('unconditional-image-generation', model.path, { device });
  try {
    const { sampleShape, isClassConditional } = generate.model;
    const samples =
      'scaler' in generate ? await scaledPoints(settings, generate.scaler) : await images(settings, generate);
    if (String(samples.sampleShape) !== String(sampleShape))
      throw new InvalidArgumentError(
        `'${settings.dataset}' has samples of shape [${samples.sampleShape}], but the model takes [${sampleShape}]`,
      );
    if (isClassConditional && !samples.labels)
      throw new InvalidArgumentError(`the model has classes, but '${settings.dataset}' has no labels`);
    const batches = new BatchStream(samples, {
      batchSize: 1,
      trainTimesteps: generate.scheduler.config.num_train_timesteps,
      seed: settings.seed,
      classes: isClassConditional ? { classCount: 1, dropout: 0 } : undefined,
    });
    const squared = squaredNoiseOf(generate.model, generate.scheduler);
    const measured = await measureIsotropy(squared, batches, 0);
    const isotropy = { ...measured, lambda: settings.trained_lambda ?? generate.isotropy?.lambda ?? 0 };
    await writeFileAtomic(file, stringifySorted(isotropy));
    return { file, isotropy };
  } finally {
    await generate.dispose();
  }
}

async function scaledPoints(
  { dataset, n, data_seed }: IsotropySettings,
  scaler: Parameters<typeof applyScaler>[0],
): Promise<Samples> {
  const raw = await loadPoints(dataset, { n, seed: data_seed, scaling: 'none' });
  const fits = scaler.scale.length === raw.dims;
  return pointSamples(fits ? { ...raw, data: applyScaler(scaler, raw.data, raw.dims) } : raw);
}

/** The images as the model is given them: of latent diffusion as latents, which are encoded for this. */
async function images(
  { dataset, seed }: IsotropySettings,
  { imageShape, autoencoder }: UnconditionalImageGenerationPipeline,
): Promise<Samples> {
  const [channels, resolution, width] = imageShape;
  if ((channels !== 1 && channels !== 3 && channels !== 4) || resolution !== width)
    throw new InvalidArgumentError(`the model's images [${imageShape}] are not square images of 1, 3 or 4 channels`);
  const set = await loadImages(dataset, { resolution, channels });
  if (!autoencoder) return imageSamples(set, { random_flip: false });
  const { factor } = autoencoder.autoencoder.scaling;
  const latents = new LatentSamples(set, autoencoder, { scaling_factor: factor }, { random_flip: false, seed });
  await latents.open();
  return latents;
}
