import path from 'node:path';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import { NPM_SETS } from '../../datasets/images/sources/npm.ts';
import { oxfordSet } from '../../datasets/images/sources/oxford.ts';
import { loadImages } from '../../datasets/index.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { resolveExtractor } from '../../evaluation/extractors/registry.ts';
import { exists, isFile } from '../../files/regular-file.ts';
import { UNet2DModel, type UNet2DOptions, unet2DPreset } from '../../models/index.ts';
import type { ImageJob, ImageSettings, NamedImageSet } from './job.ts';

/** The archives of the paper's two sets, as their authors publish them. */
const OXFORD_ARCHIVES: Readonly<Record<string, string>> = {
  'oxford-flowers-102': '102flowers.tgz',
  'oxford-iiit-pet': 'images.tar.gz',
};
const NAMES = ['digits', ...NPM_SETS.map(({ name }) => name), ...Object.keys(OXFORD_ARCHIVES)];

/**
 * Reads `[NAME=]SOURCE`. SOURCE is a name that `loadImages` knows, a folder or file of images, or a folder with the
 * archive of one of the paper's sets. NAME is the set's name in reports.
 *
 * @throws {InvalidArgumentError} when the source does not exist, or the name has other characters.
 */
export async function parseImageSet(text: string): Promise<NamedImageSet> {
  const [, given, named = ''] = /^(?:([^=/\\]+)=)?(.+)$/.exec(text) ?? [];
  const source = oxfordSet(named)?.name ?? named;
  if (NAMES.includes(source)) return { name: plainName(given ?? source, text), source, data_dir: null };
  if (!(await exists(source)))
    throw new InvalidArgumentError(
      `--data '${text}': '${source}' does not exist; give ${NAMES.join(', ')}, or a folder or file of images, as [NAME=]PATH`,
    );
  const full = path.resolve(source);
  for (const [name, archive] of Object.entries(OXFORD_ARCHIVES)) {
    if ((given === undefined || given === name) && (await isFile(path.join(full, archive))))
      return { name, source: name, data_dir: full };
  }
  const fallback = path.basename(full).replace(/\.(tar|tar\.gz|tgz|parquet)$/i, '');
  return { name: plainName(given ?? fallback, text), source: full, data_dir: null };
}

/** A name that can be part of a folder's name. */
function plainName(name: string, text: string): string {
  if (/^[\w.-]+$/.test(name) && !/^\.+$/.test(name)) return name;
  throw new InvalidArgumentError(
    `--data '${text}': the name '${name}' may only have letters, digits, '.', '_' and '-': give one as NAME=PATH`,
  );
}

/**
 * Checks everything that could stop a run on images after hours of training: reads the set, which fills its cache for the
 * jobs, builds the model and loads the extractors.
 *
 * @returns the number of images.
 * @throws what `loadImages`, `UNet2DModel` and `resolveExtractor` throw.
 */
export async function checkImageSet(
  { name, source, data_dir }: NamedImageSet,
  settings: ImageSettings,
  onProgress?: (done: number, total: number | undefined) => void,
): Promise<number> {
  const images = await loadImages(source, {
    resolution: settings.resolution,
    data_dir: data_dir ?? undefined,
    on_progress: ({ done, total }) => onProgress?.(done, total),
  });
  const smallest = Math.min(images.count, settings.samples ?? images.count);
  if (smallest <= settings.nearest_k)
    throw new InvalidArgumentError(
      `'${name}' has ${images.count} images and ${settings.samples ?? images.count} are generated: Precision and Recall need more than k = ${settings.nearest_k} of each`,
    );
  imageModel(settings.model, images);
  const { count, height, width, channels } = images;
  for (const spec of [settings.extractor, settings.logits_extractor]) {
    if (spec === null) continue;
    const extractor = await resolveExtractor(spec, { image_shape: { height, width, channels } });
    await extractor.dispose();
  }
  return count;
}

/** Trains in a minute on a CPU: two levels, attention at half the resolution. */
const TINY = {
  block_out_channels: [16, 32],
  down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
  up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
  layers_per_block: 1,
  norm_num_groups: 8,
} satisfies UNet2DOptions;

/** @throws {ConfigError} when the model cannot take images of this size. */
export function imageModel(
  model: ImageJob['model'],
  { height, width, channels }: Pick<ImageSet, 'height' | 'width' | 'channels'>,
): UNet2DModel {
  const shape = { sample_size: [height, width] as [number, number], in_channels: channels, out_channels: channels };
  return new UNet2DModel(model === 'tiny' ? { ...TINY, ...shape } : unet2DPreset(model, shape));
}
