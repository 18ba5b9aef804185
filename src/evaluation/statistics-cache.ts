import { createHash } from 'node:crypto';
import path from 'node:path';
import { defaultCacheDir } from '../datasets/images/load-images.ts';
import { errorText } from '../errors.ts';
import { exists } from '../files/regular-file.ts';
import type { GaussianStatistics } from '../metrics/frechet/feature-statistics.ts';
import { readStatistics, writeStatistics } from '../metrics/frechet/statistics-file.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';

/** Raised whenever the same images and extractor could give other statistics than before. */
const CACHE_VERSION = 1;

/** Statistics of real images, as pytorch-fid's `.npz` files named by what they are of. May be deleted at any time. */
export class StatisticsCache {
  private readonly folder: string;

  /** @param warn told of a damaged file, which is made anew, and of one that cannot be written. */
  constructor(
    cacheDir: string | undefined,
    private readonly warn: (message: string) => void,
  ) {
    this.folder = path.join(cacheDir ?? defaultCacheDir(), 'statistics');
  }

  /** The statistics under `key`; undefined when there are none, or they are damaged. */
  async read(
    key: string,
    { dims, count }: Pick<GaussianStatistics, 'dims' | 'count'>,
  ): Promise<GaussianStatistics | undefined> {
    const file = this.file(key);
    if (!(await exists(file))) return undefined;
    try {
      const statistics = await readStatistics(file);
      if (statistics.dims === dims && statistics.count === count) return statistics;
      this.warn(`${file} holds statistics of something else; they are computed again`);
    } catch (error) {
      this.warn(`${errorText(error)}; the statistics are computed again`);
    }
    return undefined;
  }

  /** Results do not depend on the cache: where it cannot be written, that is a warning. */
  async write(key: string, statistics: GaussianStatistics): Promise<void> {
    await writeStatistics(this.file(key), statistics).catch((error: Error) =>
      this.warn(`the statistics are not kept: ${error.message}`),
    );
  }

  private file(key: string): string {
    return path.join(this.folder, `${key}.npz`);
  }
}

/**
 * @param fingerprint of the images.
 * @param probe of the extractor, which stands for its preprocessing.
 */
export function statisticsKey(
  fingerprint: string,
  { name, checksum, dims }: FeatureExtractor,
  probe: string,
): string {
  return createHash('sha256')
    .update(JSON.stringify([CACHE_VERSION, fingerprint, name, checksum, dims, probe]))
    .digest('hex');
}
