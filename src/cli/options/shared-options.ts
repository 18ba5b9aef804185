import { z } from 'zod';
import { InvalidArgumentError } from '../../errors.ts';
import type { EvaluateOptions } from '../../evaluation/options.ts';
import { DEVICES, type Device } from '../../runtime/device.ts';
import { DDPMScheduler, type Scheduler, schedulerFromConfig } from '../../schedulers/index.ts';
import { option, type Settings } from './command-options.ts';

/** `--device`, for commands that compute. */
export const deviceOption = (byDefault: Device = 'auto') =>
  option('--device <name>', z.enum(DEVICES).default(byDefault), DEVICES.join(', '));

/** The scheduler that `--scheduler` names, with the model's noise schedule; without a name the model's own. */
export function schedulerNamed(
  { scheduler, eta }: { readonly scheduler?: 'ddpm' | 'ddim' | undefined; readonly eta?: number | undefined },
  own: Scheduler,
): Scheduler {
  const className = { ddpm: 'DDPMScheduler', ddim: 'DDIMScheduler' }[scheduler ?? 'ddpm'];
  const chosen = scheduler ? schedulerFromConfig({ ...own.toConfig(), _class_name: className }) : own;
  if (eta !== undefined && chosen instanceof DDPMScheduler)
    throw new InvalidArgumentError(`--eta is ${eta}, but DDPM has none: add --scheduler ddim`);
  return chosen;
}

/** How images become features, for every command that compares them. */
export const extractorOptions = {
  extractor: option(
    '--extractor <name|file:output>',
    z.string().optional(),
    'inception (default), vgg16, raw-pixels, model.onnx:output, or a transformers.js model',
  ),
  preprocessing: option(
    '--preprocessing <kind>',
    z.enum(['pytorch-fid', 'torch-fidelity']).optional(),
    'of inception and vgg16: pytorch-fid (default) or torch-fidelity',
  ),
  image_size: option(
    '--image-size <pixels>',
    z.int().min(1).optional(),
    'of an ONNX extractor that does not declare it: the side images are resized to',
  ),
  resolution: option(
    '--resolution <pixels>',
    z.number().optional(),
    'resize stored images to this side first (their own size, which must be one)',
  ),
  batch_size: option('--batch-size <count>', z.number().default(32), 'images at a time'),
  cache_dir: option('--cache-dir <folder>', z.string().optional(), 'kept statistics and downloads'),
};

/** The options of `evaluate` that the flags stand for. */
export function namedExtractor({
  extractor,
  preprocessing,
  image_size: size,
  resolution,
  batch_size,
  cache_dir,
}: Settings<typeof extractorOptions>): Pick<
  EvaluateOptions,
  'extractor' | 'extractor_options' | 'resolution' | 'batch_size' | 'cache_dir'
> {
  const image_size = size === undefined ? undefined : { height: size, width: size };
  return { extractor, extractor_options: { preprocessing, image_size }, resolution, batch_size, cache_dir };
}
