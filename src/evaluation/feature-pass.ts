import { createHash } from '#platform/hash';
import { nextTurn } from '#platform/system';
import { type Communicator, gatherParts, SINGLE } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import { concatenated } from '../graph/types.ts';
import { FeatureStatistics, type GaussianStatistics, mergeStatistics } from '../metrics/frechet/statistics.ts';
import type { PointCloud } from '../metrics/metric.ts';
import { batchesOfShare } from '../pipelines/image-output.ts';
import { bytesOf } from '../platform/bytes.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import type { FeatureExtractor, FeatureImage } from './extractors/feature-extractor.ts';
import { type EvaluationImages, type Share, withChannels } from './image-sources.ts';

/** What to keep of an extractor's features: their statistics, and the features where a metric compares them one by one. */
interface FeatureUse {
  readonly extractor: FeatureExtractor;
  readonly statistics: boolean;
  readonly features: boolean;
}

interface FeatureResult {
  readonly statistics: GaussianStatistics | undefined;
  readonly features: PointCloud | undefined;
}

interface PassOptions {
  readonly batchSize: number;
  /** Of the images that extractors see: grey ones become RGB where they are compared with coloured ones. */
  readonly channels: 1 | 3;
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** The processes that share the batches; default: this one alone. */
  readonly ranks?: Communicator | undefined;
}

/** One pass over the images for all extractors, because drawing is slow. @returns one result for each use. */
export async function passOver(
  images: EvaluationImages,
  uses: readonly FeatureUse[],
  { batchSize, channels, onProgress, signal, ranks = SINGLE }: PassOptions,
): Promise<FeatureResult[]> {
  // A covariance needs two images: few of them are not shared.
  const share: Share = images.count < 2 * batchSize * ranks.size ? [1, 1] : [ranks.rank + 1, ranks.size];
  const [begin, end] = batchesOfShare(images.count, batchSize, share);
  const count = end - begin;
  const collectors = uses.map(({ extractor, statistics, features }) => ({
    extractor,
    statistics: statistics ? new FeatureStatistics(extractor.dims) : undefined,
    features: features ? new Float32Array(count * extractor.dims) : undefined,
  }));
  let done = 0;
  for await (const batch of images.batches(batchSize, signal, share)) {
    const shown = batch.map((image) => withChannels(image, channels));
    for (const { extractor, statistics, features } of collectors) {
      if (!statistics && !features) continue;
      const vectors = await extracted(extractor, shown);
      statistics?.add(vectors);
      features?.set(vectors, done * extractor.dims);
    }
    done += batch.length;
    onProgress?.(done / count);
    await nextTurn();
    signal?.throwIfAborted();
  }
  const results: FeatureResult[] = [];
  for (const { extractor, statistics, features } of collectors) {
    const { dims } = extractor;
    const own = { statistics: statistics?.gaussian(), features };
    const all = share[1] === 1 ? own : await joined(ranks, own);
    results.push({
      statistics: all.statistics,
      features: all.features && { data: all.features, count: images.count, dims },
    });
  }
  return results;
}

/** What the ranks found in their shares, in the order of the images. */
async function joined(
  ranks: Communicator,
  { statistics, features }: { statistics: GaussianStatistics | undefined; features: Float32Array | undefined },
) {
  return {
    statistics: statistics && mergeStatistics(...(await gatherStatistics(ranks, statistics))),
    features: features && concatenated((await gatherParts(ranks, bytesOf(features))).map(floatsOf)),
  };
}

async function gatherStatistics(ranks: Communicator, own: GaussianStatistics): Promise<GaussianStatistics[]> {
  const { dims, mu, sigma, count = 0 } = own;
  const values = new Float64Array(1 + dims + dims * dims);
  values[0] = count;
  values.set(mu, 1);
  values.set(sigma, 1 + dims);
  const parts = await gatherParts(ranks, bytesOf(values));
  return parts.map((part) => {
    const all = new Float64Array(part.buffer);
    return { dims, count: all[0] ?? 0, mu: all.slice(1, 1 + dims), sigma: all.slice(1 + dims) };
  });
}

const floatsOf = (bytes: Uint8Array<ArrayBuffer>) => new Float32Array(bytes.buffer);

/**
 * Digest of the features of a fixed noise image. It differs wherever preprocessing, weights or arithmetic differ, even
 * if an extractor's name does not. An extractor that refuses images of this size fails here, before the work.
 */
export async function probeExtractor(
  extractor: FeatureExtractor,
  { height, width }: Pick<EvaluationImages, 'height' | 'width'>,
  channels: 1 | 3,
): Promise<string> {
  const stream = new RandomStream(0, STREAM.metrics, 2);
  const data = Uint8Array.from({ length: height * width * channels }, () => stream.integer(256));
  const features = await extracted(extractor, [{ data, height, width, channels }]);
  return createHash('sha256')
    .update(new Uint8Array(features.buffer, features.byteOffset, features.byteLength))
    .digest('hex');
}

/** @throws {InvalidArgumentError} unless the extractor gives one vector of its `dims` for each image. */
async function extracted(extractor: FeatureExtractor, images: readonly FeatureImage[]): Promise<Float32Array> {
  const { name, dims } = extractor;
  const features = await extractor.extract(images);
  if (features.length === images.length * dims) return features;
  throw new InvalidArgumentError(
    `the extractor ${name} gave ${features.length} values for ${images.length} images; its dims, ${dims}, need ${images.length * dims}: one vector an image, taken after the pooling`,
  );
}
