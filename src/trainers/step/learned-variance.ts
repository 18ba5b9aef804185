import { InvalidArgumentError } from '../../errors.ts';
import type { DiffusionLoss } from '../../losses/index.ts';
import { type DiffusionModel, learnsVariance } from '../../models/model.ts';
import { DDPMScheduler } from '../../schedulers/ddpm.ts';

/** @throws {InvalidArgumentError} when model, loss and scheduler disagree on whether the variance is learned. */
export function refuseVarianceMismatch(
  model: DiffusionModel,
  loss: DiffusionLoss,
  { config }: DDPMScheduler,
): void {
  const [channels = 1] = model.sampleShape;
  const { outputChannels = channels } = model;
  const learns = learnsVariance(model);
  if (outputChannels !== channels && !learns)
    throw new InvalidArgumentError(
      `the model has ${outputChannels} output channels for ${channels} of the sample: set out_channels to ${channels}, or to ${2 * channels} for a learned variance`,
    );
  if (learns && !loss.learnsVariance)
    throw new InvalidArgumentError(
      `the model has ${outputChannels} output channels for ${channels} of the sample, a learned variance, which the loss '${loss.config.name}' does not train: wrap it as hybridLoss({ base }), or set out_channels to ${channels}`,
    );
  if (!learns && loss.learnsVariance)
    throw new InvalidArgumentError(
      `the loss '${loss.config.name}' trains a learned variance, but the model has ${outputChannels} output channels for ${channels} of the sample: use a UNet2DModel with out_channels ${2 * channels}, or another loss`,
    );
  const { variance_type } = config;
  if (!learns && (variance_type === 'learned' || variance_type === 'learned_range'))
    throw new InvalidArgumentError(
      `noise_scheduler has variance_type '${variance_type}', but the model has no second half of output channels for it: use 'fixed_small' or 'fixed_large', or set out_channels to ${2 * channels}`,
    );
  if (variance_type === 'learned')
    throw new InvalidArgumentError(
      "noise_scheduler has variance_type 'learned', but hybridLoss trains 'learned_range': leave variance_type out",
    );
}

/** The scheduler that samples from the trained model: with `learned_range` where the variance was learned. */
export function samplingScheduler(model: DiffusionModel, scheduler: DDPMScheduler): DDPMScheduler {
  return learnsVariance(model)
    ? new DDPMScheduler({ ...scheduler.config, variance_type: 'learned_range' })
    : scheduler;
}
