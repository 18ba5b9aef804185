import { warn as warnUser } from '#platform/system';
import type { ImageSet } from '../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { GaussianStatistics } from '../metrics/frechet/statistics.ts';
import { parseOptions } from '../options.ts';
import * as z from '../zod.ts';
import { resolveExtractor } from './extractors/registry.ts';
import { passOver, probeExtractor } from './feature-pass.ts';
import { consecutiveShare, openImages, randomPart } from './image-sources.ts';
import { type ExtractionOptions, extractionFields, type ReportedExtractor, reportedExtractor } from './options.ts';

const settingsSchema = z.object({
  ...extractionFields,
  split: z.optional(z.string().check(z.minLength(1))),
  share: z.optional(
    z
      .readonly(z.tuple([z.int().check(z.gte(1)), z.int().check(z.gte(1))]))
      .check(z.refine(([index, shares]) => index <= shares, 'the share must be one of 1 to the number of shares')),
  ),
});

export interface ImageStatisticsOptions extends ExtractionOptions {
  /** What `loadImages` reads, or a loaded set. */
  readonly images: string | ImageSet;
  /** Which split of the images, as for `loadImages`. Default 'train', with a warning that names the others. */
  readonly split?: string | undefined;
  /** [i, n], the i-th (from 1) of n consecutive shares of the images, for n processes or machines. Default all. */
  readonly share?: readonly [index: number, shares: number] | undefined;
  /** Called with the finished fraction, 0 to 1. Default: none. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
  /** Called with warnings, for instance of the split that is read. Default `process.emitWarning`. */
  readonly on_warning?: ((message: string) => void) | undefined;
  /** Ends the computation with the signal's reason. Default: none. */
  readonly signal?: AbortSignal | undefined;
}

/** What `imageStatistics` found. */
export interface ImageStatistics {
  /** Mean and covariance of the features, and how many images they are of. */
  readonly statistics: GaussianStatistics;
  /** What made the features. */
  readonly extractor: ReportedExtractor;
}

/**
 * Mean and covariance of the features of images, for `writeStatistics`; no features are kept. Shares that several
 * processes or machines computed give the statistics of the whole by `mergeStatistics`.
 *
 * @throws {InvalidArgumentError} for wrong options or an extractor that does not give one vector an image.
 * @throws {DatasetError} when no image can be read, or not all with `strict`, or they are of different sizes.
 *
 * @example
 * const { statistics } = await imageStatistics({ images: './photos', share: [1, 4] });
 * await writeStatistics('part-1.npz', statistics);
 */
export async function imageStatistics(options: ImageStatisticsOptions): Promise<ImageStatistics> {
  const { share, split, strict, resolution, batch_size, device, device_id } = parseOptions(
    settingsSchema,
    options,
    'options for the statistics',
  );
  const { images: source, extractor: given = 'inception', extractor_options, signal } = options;
  const warn = options.on_warning ?? warnUser;
  const select = share ? consecutiveShare(...share) : randomPart(undefined, 0);
  const images = await openImages(source, { select, resolution, split, strict, warn, signal });
  const { height, width, channels } = images;
  const image_shape = { height, width, channels };
  const extractor =
    typeof given === 'string'
      ? await resolveExtractor(given, { batch_size, signal, ...extractor_options, device, device_id, image_shape })
      : given;
  try {
    await probeExtractor(extractor, images, channels);
    const [result] = await passOver(images, [{ extractor, statistics: true, features: false }], {
      batchSize: batch_size,
      channels,
      onProgress: options.on_progress,
      signal,
    });
    if (!result?.statistics) throw new InvalidArgumentError(`${images.name} has no images`);
    return { statistics: result.statistics, extractor: reportedExtractor(extractor) };
  } finally {
    if (typeof given === 'string') await extractor.dispose();
  }
}
