import { defaultCacheDir } from '#files/download';
import { createHash } from '#platform/hash';
import * as path from '#platform/path';
import { errorText } from '../errors.ts';
import { exists } from '../files/regular-file.ts';
import type { GaussianStatistics } from '../metrics/frechet/statistics.ts';
import { readStatistics, writeStatistics } from '../metrics/frechet/statistics-file.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';

/** Raised whenever the same images and extractor could give other statistics than before. */
const CACHE_VERSION = 1;

/** The origin of statistics. */
interface StatisticsOf {
  /** Of the images. */
  readonly fingerprint: string;
  readonly count: number;
  readonly extractor: FeatureExtractor;
  /** Of the extractor; it stands for its preprocessing. */
  readonly probe: string;
}

/** Statistics of real images in an `.npz` file, whose name is a digest of their origin. It may be deleted at any time. */
export class CachedStatistics {
  private readonly file: string;

  /** @param warn called when a file is damaged and made anew, or cannot be written. */
  constructor(
    private readonly of: StatisticsOf,
    cacheDir: string | undefined,
    private readonly warn: (message: string) => void,
  ) {
    const { name, checksum, dims } = of.extractor;
    const key = createHash('sha256')
      .update(JSON.stringify([CACHE_VERSION, of.fingerprint, name, checksum, dims, of.probe]))
      .digest('hex');
    this.file = path.join(cacheDir ?? defaultCacheDir(), 'statistics', `${key}.npz`);
  }

  /** Undefined when there are none, or they are damaged. */
  async read(): Promise<GaussianStatistics | undefined> {
    const { file, of } = this;
    if (!(await exists(file))) return undefined;
    try {
      const statistics = await readStatistics(file);
      if (statistics.dims === of.extractor.dims && statistics.count === of.count) return statistics;
      this.warn(`${file} holds statistics of something else; they are computed again`);
    } catch (error) {
      this.warn(`${errorText(error)}; the statistics are computed again`);
    }
    return undefined;
  }

  /** Results do not depend on the cache: a file that cannot be written is only a warning. */
  async write(statistics: GaussianStatistics): Promise<void> {
    await writeStatistics(this.file, statistics).catch((error: Error) =>
      this.warn(`the statistics are not kept: ${error.message}`),
    );
  }
}
