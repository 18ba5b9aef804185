import { readPipelineFolder } from '../../hub/pipeline-folder.ts';
import { type DiffusionModel, modelFromConfig } from '../../models/index.ts';
import { withInitialWeights } from '../../models/model.ts';
import { readModelWeights } from '../../models/pretrained-weights.ts';
import { DDPMScheduler } from '../../schedulers/index.ts';

/**
 * A saved pipeline, or any DDPM of diffusers, as a model to be trained further, from its averaged weights where the
 * folder has them, and with the noise schedule it was trained with.
 *
 * @throws {FileFormatError} when the folder is incomplete or damaged, or its weights are not those of the model that
 * its config describes; its subclass names the file format.
 */
export async function savedModel(
  folder: string,
): Promise<{ model: DiffusionModel; noise_scheduler: DDPMScheduler }> {
  const { paths, emaPaths, unetConfig, schedulerConfig } = await readPipelineFolder(folder, {
    require: ['weights'],
  });
  const model = modelFromConfig(unetConfig);
  const weights = await readModelWeights(model, (emaPaths ?? paths).weights);
  return {
    model: withInitialWeights(model, weights),
    noise_scheduler: DDPMScheduler.fromConfig(schedulerConfig),
  };
}
