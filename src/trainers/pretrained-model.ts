import { readModelWeights } from '../hub/model-weights.ts';
import { readPipelineFolder } from '../hub/pipeline-folder.ts';
import { type DiffusionModel, modelFromConfig, withInitialWeights } from '../models/index.ts';
import { type ModelSourceOptions, pipelineFolderOf } from '../pipelines/model-source.ts';
import { DDPMScheduler } from '../schedulers/ddpm.ts';

export interface PretrainedOptions extends ModelSourceOptions {
  /** Whether to start from the averaged weights, `unet_ema`; default true where the folder has them. */
  readonly ema?: boolean;
}

/** A model to be trained further, and the noise schedule it was trained with. */
export interface PretrainedModel {
  readonly model: DiffusionModel;
  readonly noise_scheduler: DDPMScheduler;
}

/**
 * A saved pipeline, or any DDPM of diffusers, as a model that a `Trainer` fine-tunes. (An ONNX file: `Trainer.fromOnnx`.)
 *
 * @param source the folder of a pipeline, or a Hub id.
 * @throws {FileFormatError} when the folder is incomplete or damaged; its subclass names the file format.
 * @throws {InvalidArgumentError} when the weights are not those of the model the config describes.
 * @throws {HubError} when a model on the Hub cannot be downloaded.
 * @example
 * const { model, noise_scheduler } = await loadPretrainedModel('google/ddpm-cifar10-32');
 * const trainer = new Trainer({ model, noise_scheduler, args, train_dataset, loss: isoLoss({ lambda: 0.1 }) });
 */
export async function loadPretrainedModel(
  source: string,
  { ema = true, ...options }: PretrainedOptions = {},
): Promise<PretrainedModel> {
  const folder = await readPipelineFolder(await pipelineFolderOf(source, options), { require: ['weights'] });
  const { weights } = (ema && folder.emaPaths) || folder.paths;
  return {
    model: withInitialWeights(modelFromConfig(folder.unetConfig), await readModelWeights(weights)),
    noise_scheduler: DDPMScheduler.fromConfig(folder.schedulerConfig),
  };
}
