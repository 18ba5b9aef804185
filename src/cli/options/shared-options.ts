import { z } from 'zod';
import { InvalidArgumentError } from '../../errors.ts';
import { extractors } from '../../evaluation/extractors/registry.ts';
import { DEVICES, type Device } from '../../runtime/device.ts';
import { schedulers } from '../../schedulers/registry.ts';
import { didYouMean, listOption, option, type Settings } from './command-options.ts';

/** `--device`. */
export const deviceOption = (byDefault: Device = 'auto') =>
  option('--device <name>', z.enum(DEVICES).default(byDefault), DEVICES.join(', '));

/** `--strict`, for commands that read images. */
export const strictOption = () =>
  option('--strict', z.boolean().optional(), 'refuse a set with an unreadable file, instead of leaving that out');

/** "ddim" for DDIMScheduler. */
const shortName = (className: string) => className.replace(/Scheduler$/, '').toLowerCase();

/** `--class-labels`, for commands that sample. */
export const classLabelsOption = (description: string) =>
  listOption('names', '--class-labels <numbers...>', z.array(z.int().min(0)).min(1).optional(), description);

/** `--scheduler`, for commands that sample. */
export const schedulerOption = () =>
  option(
    '--scheduler <name>',
    z.string().optional(),
    `${schedulers.names().map(shortName).join(', ')}, or the class name of a registered one (default: the model's own)`,
  );

/**
 * The class that `--scheduler` names in short or in full; undefined for none.
 *
 * @throws {InvalidArgumentError} when it is not registered; names the nearest one.
 */
export function schedulerClass(name: string | undefined): string | undefined {
  if (name === undefined || schedulers.find(name)) return name;
  const className = schedulers.names().find((known) => shortName(known) === name.toLowerCase());
  if (className !== undefined) return className;
  const known = schedulers.names().flatMap((each) => [shortName(each), each]);
  throw new InvalidArgumentError(
    `--scheduler '${name}' is unknown: use ${known.join(', ')}, or register your own with --import.${didYouMean(name, known)}`,
  );
}

/** @throws {InvalidArgumentError} when `--eta` is given, but the steps are DDPM's. */
export function refuseUnusedEta(eta: number | undefined, className: string): void {
  if (eta !== undefined && className === 'DDPMScheduler')
    throw new InvalidArgumentError(`--eta is ${eta}, but DDPM has none: add --scheduler ddim`);
}

/** Options of sampling, for points and for images. */
export const samplingOptions = {
  model: option(
    '--model <folder|hub-id|file.onnx>',
    z.string('name the folder of a pipeline, a Hub id, or an ONNX file'),
    'the saved model',
  ),
  revision: option('--revision <name>', z.string().optional(), 'branch, tag or commit of a Hub id'),
  n: option('--n <count>', z.number().optional(), 'number of samples (default: points 10000, images 64)'),
  steps: option(
    '--steps <count>',
    z.number().optional(),
    'steps of the reverse process (default: 1000; 50 to 100 are enough for ddim)',
  ),
  scheduler: schedulerOption(),
  eta: option('--eta <value>', z.number().optional(), "ddim's eta, 0 to 1 (default: 0)"),
  seed: option('--seed <seed>', z.number().default(0), 'seed; sample i depends only on it and on i'),
  device: deviceOption(),
  out: listOption(
    'files',
    '--out <paths...>',
    z.array(z.string()).min(1).optional(),
    'points: .csv, .npy, .svg and .png files (default: points.csv); images: a folder, a .png for a grid, or both (default: samples.png)',
  ),
};
/** `scheduler` is the class name, even if a short name was given. */
export type SamplingSettings = Settings<typeof samplingOptions>;

/** How images become features, for every command that compares images. */
export const extractorOptions = {
  extractor: option(
    '--extractor <name|file:output>',
    z.string().optional(),
    `${extractors.names().join(', ')}, model.onnx:output, a transformers.js model, or a registered one (default: inception)`,
  ),
  preprocessing: option(
    '--preprocessing <kind>',
    z.enum(['pytorch-fid', 'torch-fidelity']).optional(),
    'for inception and vgg16: pytorch-fid (default) or torch-fidelity',
  ),
  image_size: option(
    '--image-size <pixels>',
    z.int().min(1).optional(),
    'side that images are resized to, for an ONNX extractor that does not declare it',
  ),
  resolution: option(
    '--resolution <pixels>',
    z.number().optional(),
    'resize stored images to this side first (default: their own size, which must be the same for all)',
  ),
  strict: strictOption(),
  batch_size: option('--batch-size <count>', z.number().default(32), 'images per batch'),
  cache_dir: option('--cache-dir <folder>', z.string().optional(), 'folder of cached statistics and downloads'),
};

/** The options of `evaluate` for these flags. */
export function namedExtractor({
  extractor,
  preprocessing,
  image_size: size,
  resolution,
  strict,
  batch_size,
  cache_dir,
}: Settings<typeof extractorOptions>) {
  const image_size = size === undefined ? undefined : { height: size, width: size };
  return { extractor, extractor_options: { preprocessing, image_size }, resolution, strict, batch_size, cache_dir };
}
