import path from 'node:path';
import type { RawImage } from '@huggingface/transformers';
import { world } from '#distributed/world';
import { InvalidArgumentError } from '../../../errors.ts';
import { writeFileAtomic } from '../../../files/atomic.ts';
import { encodePng, type ImageBytes } from '../../../pipelines/image-output.ts';
import { pipeline } from '../../../pipelines/pipeline.ts';
import { writeImageGrid } from '../../../plots/index.ts';
import * as z from '../../../zod.ts';
import { grouped, option, type Settings } from '../../options/command-options.ts';
import {
  classLabelsOption,
  conditionFiles,
  conditionOption,
  ofRank,
  parsedShare,
  refuseUnusedEta,
  resolutionSchema,
  type SamplingSettings,
  samplingCall,
  shareOption,
} from '../../options/shared-options.ts';
import { type Watch, withProgress } from '../../ui/progress.ts';

export const imageOptions = grouped('Images:', {
  class_labels: classLabelsOption('class of all images, or classes that take turns; for class-conditional models'),
  guidance_scale: option(
    '--guidance-scale <weight>',
    z.optional(z.number()),
    'weight of classifier-free guidance; 1: no guidance (default: 1)',
  ),
  condition: conditionOption(),
  sample_size: option(
    '--sample-size <side|HxW>',
    z.optional(resolutionSchema),
    "size of the images, for a model that leaves it open (default: the model's)",
  ),
  init_image: option(
    '--init-image <file|url>',
    z.optional(z.string()),
    'begin from this image in place of noise, as far as --strength says',
  ),
  mask: option(
    '--mask <file|url>',
    z.optional(z.string()),
    'draw --init-image anew where this image is white, and keep it where it is black',
  ),
  strength: option(
    '--strength <value>',
    z.optional(z.number()),
    'how much of --init-image is drawn anew, 0 to 1 (default: 0.8, with --mask 1)',
  ),
  jump_length: option(
    '--jump-length <steps>',
    z.optional(z.number()),
    'with --mask: steps repeated at a time (default: 10)',
  ),
  jump_n_sample: option(
    '--jump-n-sample <times>',
    z.optional(z.number()),
    'with --mask: how often steps are taken; 1 repeats none (default: 10)',
  ),
  batch_size: option(
    '--batch-size <count>',
    z.optional(z.int().check(z.gte(1))),
    'images per batch when drawing into a folder (default: 16, on a GPU up to 128)',
  ),
  share: shareOption(
    'draw only the i-th of n parts of a folder, for n processes that share a disk (default: all; with mpirun each rank its part)',
  ),
  raw_weights: option('--raw-weights', z.optional(z.boolean()), 'use the raw weights even if there are averaged ones'),
  columns: option(
    '--columns <count>',
    z.optional(z.int().check(z.gte(1))),
    'grid: images per row (default: about as many as rows)',
  ),
  scale: option(
    '--scale <factor>',
    z.optional(z.int().check(z.gte(1), z.lte(64))),
    'grid: enlargement (default: small images are enlarged to about 64 pixels)',
  ),
});

type ImageSettings = SamplingSettings & Settings<typeof imageOptions>;

const DEFAULT_COUNT = 64;
/** More images could not be told apart. */
const MAX_GRID = 4096;

/** Draws images into a folder, a grid, or both. Returns a sentence that says what was written. */
export async function generateImages(model: string, settings: ImageSettings): Promise<string> {
  const { n: count = DEFAULT_COUNT, eta, batch_size, guidance_scale, scheduler } = settings;
  const { folder, grid } = targets(settings.out ?? ['samples.png'], count);
  const { device, dtype, raw_weights, init_image, mask, strength, jump_length, jump_n_sample } = settings;
  const [from, to] = settings.interpolate ?? [];
  if (from !== undefined && init_image !== undefined)
    throw new InvalidArgumentError('--interpolate and --init-image both say where to begin: give one of them');
  if (from !== undefined && folder !== undefined)
    throw new InvalidArgumentError(`--interpolate draws a grid: give a .png with --out, not '${folder}'`);
  const ranks = world();
  const share = parsedShare(settings.share) ?? (folder !== undefined && ranks.size > 1 ? ofRank(ranks) : undefined);
  if (settings.share !== undefined && (folder === undefined || grid !== undefined))
    throw new InvalidArgumentError('--share divides a folder of images: give a folder with --out, and no .png');
  // What is no folder, one rank draws.
  if (folder === undefined && ranks.rank > 0) return '';
  const condition = await conditionFiles(settings.condition, count);
  const draw = await pipeline('unconditional-image-generation', model, {
    ...{ device, dtype, ema: !raw_weights, scheduler },
    sample_size: settings.sample_size,
  });
  try {
    refuseUnusedEta(eta, draw.scheduler);
    const [channels = 1] = draw.imageShape;
    if (![1, 3, 4].includes(channels))
      throw new InvalidArgumentError(
        `${model} draws images of ${channels} channels, which no PNG file holds: call pipeline() with output_type 'tensor' or 'uint8'`,
      );
    const options = {
      ...samplingCall(settings),
      guidance_scale,
      class_labels: labelsOf(settings.class_labels, count),
      condition,
    };
    const notice = folder ? `interrupted: the same command continues with what is in ${folder}` : 'interrupted';
    const edit = { image: init_image, mask_image: mask, strength, jump_length, jump_n_sample };
    const drawn = async (watch: Watch) => {
      if (from !== undefined && to !== undefined)
        return bytesOf(await draw.interpolate(from, to, count, { ...options, ...watch }));
      if (folder === undefined) return draw({ ...options, ...edit, batch_size: count, output_type: 'uint8', ...watch });
      const files = await draw.toFolder(folder, { ...options, ...edit, count, batch_size, share, ...watch });
      await ranks.barrier();
      if (grid === undefined || ranks.rank > 0) return undefined;
      // The parts of the other ranks are there, and are not drawn again.
      return imagesIn(ranks.size > 1 ? await draw.toFolder(folder, { ...options, ...edit, count, batch_size }) : files);
    };
    const images = await withProgress('generate', drawn, notice);
    if (grid !== undefined && images) await writeGrid(grid, images, settings);
  } finally {
    await draw.dispose();
  }
  if (ranks.rank > 0) return '';
  const written = [folder, grid].filter((target) => target !== undefined);
  if (settings.share !== undefined) return `share ${settings.share} of ${count} images: ${folder}`;
  return `${count} image${count === 1 ? '' : 's'}: ${written.join(', ')}`;
}

const OTHER_FILES = ['.jpg', '.jpeg', '.webp', '.gif', '.tiff', '.bmp', '.svg', '.csv', '.npy', '.npz'];

/** @throws {InvalidArgumentError} unless `out` is at most one folder and one .png, or if the grid has too many images. */
function targets(out: readonly string[], count: number): { folder: string | undefined; grid: string | undefined } {
  const extension = (name: string) => path.extname(name).toLowerCase();
  const wrong = out.find((name) => OTHER_FILES.includes(extension(name)));
  if (wrong !== undefined)
    throw new InvalidArgumentError(`--out '${wrong}' must be a folder or end in .png for images`);
  const [grid, secondGrid] = out.filter((name) => extension(name) === '.png');
  const [folder, secondFolder] = out.filter((name) => extension(name) !== '.png');
  if (secondGrid !== undefined || secondFolder !== undefined)
    throw new InvalidArgumentError(`--out takes one folder and one .png, not ${out.join(', ')}`);
  if (grid !== undefined && count > MAX_GRID)
    throw new InvalidArgumentError(
      `--n is ${count}, but a grid holds at most ${MAX_GRID} images: give a folder with --out`,
    );
  return { folder, grid };
}

function labelsOf(labels: readonly number[] | undefined, count: number): number | number[] | undefined {
  if (labels === undefined || labels.length === 1) return labels?.[0];
  return Array.from({ length: count }, (_, i) => labels[i % labels.length] ?? 0);
}

async function imagesIn(files: readonly string[]): Promise<ImageBytes> {
  const { default: sharp } = await import('sharp');
  const decoded = await Promise.all(files.map((file) => sharp(file).raw().toBuffer({ resolveWithObject: true })));
  const { height = 1, width = 1, channels = 1 } = decoded[0]?.info ?? {};
  return {
    data: Buffer.concat(decoded.map(({ data }) => data)),
    count: files.length,
    height,
    width,
    channels: channels as ImageBytes['channels'],
  };
}

function bytesOf(images: readonly RawImage[]): ImageBytes {
  const { height = 1, width = 1, channels = 1 } = images[0] ?? {};
  return {
    data: Buffer.concat(images.map(({ data }) => Uint8Array.from(data))),
    count: images.length,
    height,
    width,
    channels,
  };
}

/** A single image is written in its own size. */
async function writeGrid(file: string, images: ImageBytes, { columns, scale }: ImageSettings): Promise<void> {
  if (images.count === 1 && scale === undefined) {
    await writeFileAtomic(file, await encodePng(images.data, images));
    return;
  }
  const visible = Math.max(1, Math.round(64 / Math.max(images.width, images.height)));
  await writeImageGrid(file, images, { columns, scale: scale ?? visible });
}
