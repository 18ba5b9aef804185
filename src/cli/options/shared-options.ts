import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { isImageName } from '../../datasets/images/formats/image-formats.ts';
import type { Communicator } from '../../distributed/communicator.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { extractors, PREPROCESSINGS } from '../../evaluation/extractors/registry.ts';
import { isFolder } from '../../files/regular-file.ts';
import { ONNX_DTYPES } from '../../hub/hub-options.ts';
import { DEVICES, type Device } from '../../runtime/device.ts';
import { schedulerNames } from '../../schedulers/registry.ts';
import type { Scheduler } from '../../schedulers/scheduler.ts';
import * as z from '../../zod.ts';
import { listOption, option, type Settings } from './command-options.ts';

/** `--device`. */
export const deviceOption = (byDefault: Device = 'auto') =>
  option('--device <name>', z._default(z.enum(DEVICES), byDefault), DEVICES.join(', '));

/** One of several consecutive parts: the i-th, from 1, of n. */
export type Share = readonly [index: number, shares: number];

/** `--share`, for commands that several processes divide among them. */
export const shareOption = (description: string) => option('--share <i/n>', z.optional(z.string()), description);

/** The part of a rank of mpirun. */
export const ofRank = ({ rank, size }: Pick<Communicator, 'rank' | 'size'>): Share => [rank + 1, size];

/** @throws {InvalidArgumentError} when the text is not a share. */
export function parsedShare(text: string | undefined): Share | undefined {
  if (text === undefined) return undefined;
  const [, index = 0, shares = 0] = (/^(\d+)\/(\d+)$/.exec(text) ?? []).map(Number);
  if (index >= 1 && index <= shares) return [index, shares];
  throw new InvalidArgumentError(`--share '${text}' must be i/n with i from 1 to n, such as 1/4`);
}

const side = z.int('must be a side in pixels, such as 64, or HEIGHTxWIDTH').check(z.gte(1), z.lte(8192));

/** A side in pixels, or "HEIGHTxWIDTH"; in a config file also [height, width]. */
export const resolutionSchema = z.union(
  [
    side,
    z.tuple([side, side]),
    z.pipe(
      z.pipe(
        z.string().check(z.regex(/^\d+x\d+$/)),
        z.transform((text) => text.split('x').map(Number)),
      ),
      z.tuple([side, side]),
    ),
  ],
  'must be a side in pixels, such as 64, or HEIGHTxWIDTH, such as 48x64',
);

/** `--strict`, for commands that read images. */
export const strictOption = () =>
  option('--strict', z.optional(z.boolean()), 'refuse a set with an unreadable file, instead of leaving that out');

const CLASS_NUMBERS = 'must be class numbers';

/** `--class-labels`, for commands that sample. */
export const classLabelsOption = (description: string) =>
  listOption(
    'names',
    '--class-labels <numbers...>',
    z.optional(z.array(z.number(CLASS_NUMBERS).check(z.gte(0, CLASS_NUMBERS))).check(z.minLength(1, CLASS_NUMBERS))),
    description,
  );

/** `--condition`, for commands that sample. */
export const conditionOption = () =>
  listOption(
    'files',
    '--condition <files...>',
    z.optional(z.array(z.string()).check(z.minLength(1))),
    'images that the model is given beside the samples, in their size: one for all, one for each, or a folder of them',
  );

/**
 * The images of `--condition` for `count` samples. A folder stands for its image files, in the order of their names, of which
 * the first ones are taken.
 *
 * @throws {InvalidArgumentError} when a folder has fewer of them.
 */
export async function conditionFiles(given: readonly string[] | undefined, count: number) {
  const [folder] = given ?? [];
  if (given?.length !== 1 || folder === undefined || !(await isFolder(folder))) return given;
  const names = (await readdir(folder)).filter((name) => isImageName(name)).sort();
  if (names.length < count)
    throw new InvalidArgumentError(
      `--condition '${folder}' has ${names.length} image files, but ${count} samples were asked for: give one for each`,
    );
  return names.slice(0, count).map((name) => path.join(folder, name));
}

/** `--scheduler`, for commands that sample. */
export const schedulerOption = () =>
  option(
    '--scheduler <name>',
    z.optional(z.string()),
    `${schedulerNames().join(', ')}, or the class name of a registered one (default: the model's own)`,
  );

/** @throws {InvalidArgumentError} when `--eta` is given, but the steps have none. */
export function refuseUnusedEta(eta: number | undefined, { className, library }: Scheduler): void {
  if (eta !== undefined && className !== 'DDIMScheduler' && library === 'diffusers')
    throw new InvalidArgumentError(`--eta is ${eta}, but ${className} has none: add --scheduler ddim`);
}

/** Options of sampling, for points and for images. */
export const samplingOptions = {
  model: option(
    '--model <folder|hub-id|file.onnx>',
    z.string('name the folder of a pipeline, a Hub id, or an ONNX file'),
    'the saved model',
  ),
  dtype: option(
    '--dtype <type>',
    z.optional(z.enum(ONNX_DTYPES)),
    'type in which the model runs: fp32 (default), or fp16, half precision',
  ),
  revision: option('--revision <name>', z.optional(z.string()), 'branch, tag or commit of a Hub id'),
  n: option('--n <count>', z.optional(z.number()), 'number of samples (default: points 10000, images 64)'),
  steps: option(
    '--steps <count>',
    z.optional(z.number()),
    'steps of the reverse process (default: ddpm 1000, ddim and pndm 50, the others 20)',
  ),
  scheduler: schedulerOption(),
  eta: option('--eta <value>', z.optional(z.number()), "ddim's eta, 0 to 1 (default: 0)"),
  iso_lambda: option(
    '--iso-lambda <weight>',
    z.optional(z.number()),
    'draw as if trained with this weight of the isotropy penalty (default: as trained)',
  ),
  isotropy: option(
    '--isotropy <value>',
    z.optional(z.number()),
    "for --iso-lambda: the isotropy of a model trained without the penalty (default: the saved model's)",
  ),
  noise_scale: listOption(
    'names',
    '--noise-scale <factors...>',
    z.optional(z.array(z.number()).check(z.minLength(1), z.maxLength(2))),
    'multiply the predicted noise by this, or from the first factor to the second over the steps (default: 1)',
  ),
  seed: option('--seed <seed>', z._default(z.number(), 0), 'seed; sample i depends only on it and on i'),
  interpolate: listOption(
    'names',
    '--interpolate <seeds...>',
    z.optional(z.array(z.int().check(z.gte(0))).check(z.length(2, 'must be two seeds'))),
    'draw --n samples from noise at even distances between that of two seeds',
  ),
  device: deviceOption(),
  out: listOption(
    'files',
    '--out <paths...>',
    z.optional(z.array(z.string()).check(z.minLength(1))),
    'points: .csv, .npy, .svg and .png files (default: points.csv); images: a folder, a .png for a grid, or both (default: samples.png)',
  ),
};
export type SamplingSettings = Settings<typeof samplingOptions>;

/** The options of a call of a pipeline for these flags. */
export function samplingCall({ steps, eta, seed, iso_lambda, isotropy, noise_scale: factors }: SamplingSettings) {
  const [first = 1, last = first] = factors ?? [];
  const noise_scale = factors && ([first, last] as const);
  return { num_inference_steps: steps, eta, seed, iso_lambda, isotropy, noise_scale };
}

/** How images become features, for every command that compares images. */
export const extractorOptions = {
  extractor: option(
    '--extractor <name|file:output>',
    z.optional(z.string()),
    `${extractors.names().join(', ')}, model.onnx:output, a transformers.js model, or a registered one (default: inception)`,
  ),
  preprocessing: option(
    '--preprocessing <kind>',
    z.optional(z.enum(PREPROCESSINGS)),
    `for inception and vgg16: ${PREPROCESSINGS.join(', ')} (default: pytorch-fid)`,
  ),
  image_size: option(
    '--image-size <pixels>',
    z.optional(z.int().check(z.gte(1))),
    'side that images are resized to, for an ONNX extractor that does not declare it',
  ),
  resolution: option(
    '--resolution <pixels>',
    z.optional(z.number()),
    'resize stored images to this side first (default: their own size, which must be the same for all)',
  ),
  strict: strictOption(),
  batch_size: option('--batch-size <count>', z._default(z.number(), 32), 'images per batch'),
  cache_dir: option('--cache-dir <folder>', z.optional(z.string()), 'folder of cached statistics and downloads'),
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
