import { InvalidArgumentError } from '../errors.ts';
import * as z from '../zod.ts';
import type { DiffusionModel, SampleSize } from './model.ts';

/** For an option that is a `SampleSize`; whether it fits the model is checked with the model. */
export const sampleSizeOption = z.custom<SampleSize>((value) => {
  const lengths = Array.isArray(value) ? value : [value, value];
  return lengths.length === 2 && lengths.every((length) => Number.isSafeInteger(length) && Number(length) >= 1);
}, 'must be a whole number of pixels, or [height, width]');

/** Whether a config says nothing of the size of samples, and so the model has no `sampleShape` yet. */
export function leavesSizeOpen({ config }: DiffusionModel): boolean {
  return 'sample_size' in config && config.sample_size === null;
}

/**
 * The model for samples of the size that an option `sample_size` asks for; the model itself without one.
 *
 * @throws {InvalidArgumentError} when the model has one size only. @throws {ConfigError} when it does not take the size.
 */
export function sizedModel(model: DiffusionModel, size: SampleSize | undefined): DiffusionModel {
  if (size === undefined) return model;
  if (model.withSampleSize) return model.withSampleSize(size);
  throw new InvalidArgumentError(
    `sample_size is ${JSON.stringify(size)}, but a ${model.config._class_name} has one size of samples: leave it out`,
  );
}
