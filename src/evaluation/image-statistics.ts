import { z } from 'zod';
import type { ImageSet } from '../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { GaussianStatistics } from '../metrics/frechet/feature-statistics.ts';
import { DEVICES } from '../runtime/device.ts';
import { consecutiveShare, imagesOfSet, randomPart } from './evaluation-images.ts';
import type { ReportedExtractor } from './evaluation-report.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import { type ResolveExtractorOptions, resolveExtractor } from './extractors/resolve-extractor.ts';
import { passOver, probeExtractor } from './feature-pass.ts';
import { storedImages } from './stored-images.ts';

const side = z.int().min(1).max(8192);
const settingsSchema = z.object({
  share: z
    .tuple([z.int().min(1), z.int().min(1)])
    .readonly()
    .refine(([index, shares]) => index <= shares, 'the share must be one of 1 to the number of shares')
    .optional(),
  resolution: z
    .union([side.transform((size) => [size, size] as const), z.tuple([side, side]).readonly()])
    .optional(),
  batch_size: z.int().min(1).max(65_536).default(32),
  device: z.enum(DEVICES).default('auto'),
});

/**
 * - `share`: [i, n], the i-th (from 1) of n consecutive shares of the images, for n processes or machines; default all.
 * - `resolution`, `batch_size` (32), `device` ('auto'): as for `evaluate`.
 */
export interface ImageStatisticsOptions extends z.input<typeof settingsSchema> {
  /** What `loadImages` reads, or a loaded set. */
  readonly images: string | ImageSet;
  /** An extractor, or a name for `resolveExtractor`; default 'inception'. */
  readonly extractor?: FeatureExtractor | string | undefined;
  /** For an extractor that is given by name. */
  readonly extractor_options?: Omit<ResolveExtractorOptions, 'image_shape' | 'device'> | undefined;
  readonly on_progress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ImageStatistics {
  readonly statistics: GaussianStatistics;
  readonly extractor: ReportedExtractor;
}

/**
 * Mean and covariance of the features of images, for `writeStatistics`; no features are kept. Shares that several
 * processes or machines computed give the statistics of the whole by `mergeStatistics`.
 *
 * @throws {InvalidArgumentError} for wrong options or an extractor that does not give one vector an image.
 * @throws {DatasetError} for images that cannot be read or are of different sizes.
 *
 * @example
 * const { statistics } = await imageStatistics({ images: './photos', share: [1, 4] });
 * await writeStatistics('part-1.npz', statistics);
 */
export async function imageStatistics(options: ImageStatisticsOptions): Promise<ImageStatistics> {
  const parsed = settingsSchema.safeParse(options);
  if (!parsed.success)
    throw new InvalidArgumentError(`wrong options for the statistics:\n${z.prettifyError(parsed.error)}`);
  const { share, resolution, batch_size, device } = parsed.data;
  const { images: source, extractor: given = 'inception', extractor_options, signal } = options;
  const select = share ? consecutiveShare(...share) : randomPart(undefined, 0);
  const images =
    typeof source === 'string'
      ? await storedImages(source, { select, resolution, signal })
      : imagesOfSet(source, select);
  const { height, width, channels } = images;
  const extractor =
    typeof given === 'string'
      ? await resolveExtractor(given, {
          batch_size,
          ...extractor_options,
          device,
          image_shape: { height, width, channels },
        })
      : given;
  try {
    await probeExtractor(extractor, images, channels);
    const [result] = await passOver(images, [{ extractor, statistics: true, features: false }], {
      batchSize: batch_size,
      channels,
      onProgress: options.on_progress,
      signal,
    });
    const { name, checksum, dims } = extractor;
    if (!result?.statistics) throw new InvalidArgumentError(`${images.name} has no images`);
    return { statistics: result.statistics, extractor: { name, checksum, dims } };
  } finally {
    if (typeof given === 'string') await extractor.dispose();
  }
}
