import { createHash } from '#platform/hash';
import { nextTurn } from '#platform/system';
import { InvalidArgumentError } from '../errors.ts';
import { FeatureStatistics, type GaussianStatistics } from '../metrics/frechet/statistics.ts';
import { batchesOfShare } from '../pipelines/image-output.ts';
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
  /** Undefined also for a share without images. */
  readonly statistics: GaussianStatistics | undefined;
  /** Row-major, one vector an image. */
  readonly features: Float32Array | undefined;
}

interface PassOptions {
  readonly batchSize: number;
  /** Of the images that extractors see: grey ones become RGB where they are compared with coloured ones. */
  readonly channels: 1 | 3;
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Which of several processes this is; each takes a share of the batches. Default: it is alone. */
  readonly share?: Share | undefined;
}

/**
 * One pass over the images of a share for all extractors, because drawing is slow.
 *
 * @returns one result for each use.
 */
export async function passOver(
  images: EvaluationImages,
  uses: readonly FeatureUse[],
  { batchSize, channels, onProgress, signal, share = [1, 1] }: PassOptions,
): Promise<FeatureResult[]> {
  const [index, shares] = share;
  // A covariance needs two images: the first process takes a few of them alone.
  const isShared = images.count >= 2 * batchSize * shares;
  const taken: Share = isShared ? share : [1, 1];
  const [begin, end] = batchesOfShare(images.count, batchSize, taken);
  const count = isShared || index === 1 ? end - begin : 0;
  const collectors = uses.map(({ extractor, statistics, features }) => ({
    extractor,
    statistics: statistics ? new FeatureStatistics(extractor.dims) : undefined,
    features: features ? new Float32Array(count * extractor.dims) : undefined,
  }));
  let done = 0;
  for await (const batch of count > 0 ? images.batches(batchSize, signal, taken) : []) {
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
  return collectors.map(({ statistics, features }) => ({
    statistics: count > 0 ? statistics?.gaussian() : undefined,
    features,
  }));
}

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
