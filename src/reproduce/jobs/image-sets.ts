import path from 'node:path';
import { loadImages } from '../../datasets/index.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { exists, isFile } from '../../files/regular-file.ts';
import { resolveExtractor } from '../../metrics/index.ts';
import { imageModel } from './image-model.ts';
import type { ImageSettings } from './presets.ts';

/** A set of images to train on. */
export interface NamedImageSet {
  /** For reports; the paper's figures are shown beside sets of the paper's names. */
  readonly name: string;
  /** For `loadImages`. */
  readonly source: string;
  /** The folder of an Oxford set's archive, else null. */
  readonly data_dir: string | null;
}

/** The archives of the paper's two sets, as their authors publish them. */
const OXFORD_ARCHIVES: Readonly<Record<string, string>> = {
  'oxford-flowers-102': '102flowers.tgz',
  'oxford-iiit-pet': 'images.tar.gz',
};
const NAMES = ['digits', ...Object.keys(OXFORD_ARCHIVES)];

/**
 * Reads `[NAME=]SOURCE`: a name that `loadImages` knows, a folder or file of images, or a folder that holds the
 * archive of one of the paper's sets. NAME is what reports call it.
 *
 * @throws {InvalidArgumentError} when the source is not there, or the name is no plain word.
 */
export async function parseImageSet(text: string): Promise<NamedImageSet> {
  const [, given, source = ''] = /^(?:([^=/\\]+)=)?(.+)$/.exec(text) ?? [];
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

/** Folders are named after it. */
function plainName(name: string, text: string): string {
  if (/^[\w.-]+$/.test(name) && !/^\.+$/.test(name)) return name;
  throw new InvalidArgumentError(
    `--data '${text}': the name '${name}' must be of letters, digits, '.', '_' and '-': give one as NAME=PATH`,
  );
}

/**
 * Looks at everything that could stop a run on images after hours of training: reads the sets, which fills their
 * cache for the jobs, builds the model and loads the extractors.
 *
 * @throws what `loadImages`, `UNet2DModel` and `resolveExtractor` throw.
 */
export async function checkImageSettings(
  sets: readonly NamedImageSet[],
  settings: ImageSettings,
  onProgress: (set: NamedImageSet, done: number, total: number | undefined) => void,
): Promise<void> {
  for (const set of sets) {
    const images = await loadImages(set.source, {
      resolution: settings.resolution,
      ...(set.data_dir === null ? {} : { data_dir: set.data_dir }),
      on_progress: ({ done, total }) => onProgress(set, done, total),
    });
    const smallest = Math.min(images.count, settings.samples ?? images.count);
    if (smallest <= settings.nearest_k)
      throw new InvalidArgumentError(
        `'${set.name}' has ${images.count} images and ${settings.samples ?? images.count} are generated: Precision and Recall need more than k = ${settings.nearest_k} of each`,
      );
    imageModel(settings.model, images);
    const { height, width, channels } = images;
    for (const spec of [settings.extractor, settings.logits_extractor]) {
      if (spec === null) continue;
      const extractor = await resolveExtractor(spec, { image_shape: { height, width, channels } });
      await extractor.dispose();
    }
  }
}
