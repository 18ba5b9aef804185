import path from 'node:path';
import { HubError, InvalidArgumentError } from '../../errors.ts';
import { exists } from '../../files/regular-file.ts';
import { type OpenOptions, pipelineFolderOf, readPipelineFolder } from '../../hub/open-pretrained.ts';
import { pipelineFiles } from '../../hub/pipeline-folder.ts';
import { HUB_ID } from '../../hub/repository.ts';
import type { DiffusionModel } from '../../models/index.ts';
import { withInitialWeights } from '../../models/model.ts';
import { modelFromConfig } from '../../models/registry.ts';
import { readModelWeights } from '../../models/weights.ts';
import { drawsPoints } from '../../pipelines/load.ts';
import { DDPMScheduler } from '../../schedulers/index.ts';

/** A saved model, and what it generates. */
export interface ModelName {
  readonly kind: 'points' | 'images';
  /** The folder, downloaded from the Hub where it was a Hub id; or the ONNX file. */
  readonly path: string;
}

/**
 * Finds out what a model generates without loading it.
 *
 * @param name the folder of a pipeline or of the run that wrote it, a Hub id, or the path of an ONNX file.
 * @throws {InvalidArgumentError}, {HubError}, {FileFormatError} as `pipeline()`.
 */
export async function modelNamed(name: string, options: OpenOptions = {}): Promise<ModelName> {
  if (name.toLowerCase().endsWith('.onnx')) return { kind: 'images', path: name };
  const folder = await readPipelineFolder(await folderNamed(name, options), { require: [] });
  return { kind: (await drawsPoints(folder)) ? 'points' : 'images', path: folder.dir };
}

/**
 * The folder of a pipeline: `name` itself, `pipeline` in the folder of a run, or a download from the Hub.
 *
 * @throws {InvalidArgumentError} when it is none of them. @throws {HubError} when the download fails.
 */
export async function folderNamed(name: string, options: OpenOptions = {}): Promise<string> {
  const ofRun = path.join(name, 'pipeline');
  if (await exists(path.join(ofRun, pipelineFiles.modelIndex))) return path.resolve(ofRun);
  try {
    return await pipelineFolderOf(name, options);
  } catch (error) {
    if (await exists(name))
      throw new InvalidArgumentError(
        `'${name}' is not a pipeline: it has neither ${pipelineFiles.modelIndex} nor ${pipelineFiles.config}`,
      );
    if (error instanceof InvalidArgumentError && !HUB_ID.test(name))
      throw new InvalidArgumentError(
        `there is no folder '${name}', and it is not a Hub id, which has the form owner/name`,
      );
    if (error instanceof HubError)
      throw new HubError(`there is no folder '${name}', and as a Hub id: ${error.message}`, { cause: error });
    throw error;
  }
}

/**
 * A saved pipeline, or any DDPM of diffusers, as a model to fine-tune. Averaged weights are preferred. The noise schedule
 * is the one that it was trained with.
 *
 * @throws {FileFormatError} when the folder is incomplete or damaged, or its weights are not those of the model that
 * its config describes; its subclass names the file format.
 */
export async function savedModel(folder: string): Promise<{
  model: DiffusionModel;
  noise_scheduler: DDPMScheduler;
  /** The folder of what decodes the latents that the model draws. */
  autoencoder: string | undefined;
}> {
  const { paths, emaPaths, unetConfig, schedulerConfig, autoencoder } = await readPipelineFolder(folder, {
    require: ['weights'],
  });
  const model = modelFromConfig(unetConfig);
  const weights = await readModelWeights(model, (emaPaths ?? paths).weights);
  const noise_scheduler = DDPMScheduler.fromConfig(schedulerConfig);
  return { model: withInitialWeights(model, weights), noise_scheduler, autoencoder };
}
