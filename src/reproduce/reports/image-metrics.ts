import type { ImageSet } from '../../datasets/images/image-set.ts';
import type { FeatureExtractor, FeatureImage } from '../../evaluation/extractors/feature-extractor.ts';
import { resolveExtractor } from '../../evaluation/extractors/registry.ts';
import {
  FeatureStatistics,
  frechetDistance,
  inceptionScore,
  type PointCloud,
  precisionRecallDensityCoverage,
} from '../../metrics/index.ts';
import type { ImageJob, ImageResult, JobContext } from '../jobs/job.ts';

/** Images that go through the extractor before the job looks whether it was stopped. */
const GROUP = 256;

/** Images one after another, read when they are needed. */
export interface MeasuredImages {
  readonly count: number;
  image(index: number): FeatureImage;
}

export function imagesOf(set: ImageSet): MeasuredImages {
  const { count, height, width, channels } = set;
  return { count, image: (index) => ({ data: set.pixels(index), height, width, channels }) };
}

/** Table 6's metrics of generated images against real ones, on the features of the job's extractor. */
export async function measureImages(
  { extractor, logits_extractor, nearest_k, is_splits, device }: ImageJob,
  real: MeasuredImages,
  generated: MeasuredImages,
  { signal, onProgress }: JobContext,
): Promise<Pick<ImageResult, 'extractor' | 'logits_extractor' | 'metrics'>> {
  const image_shape = generated.image(0);
  const total = real.count + generated.count * (logits_extractor === null ? 1 : 2);
  const progress = (before: number) => (done: number) => onProgress((before + done) / total);
  const open = (spec: string) => resolveExtractor(spec, { image_shape, device });

  const features = await withExtractor(await open(extractor), async (opened) => ({
    name: opened.name,
    checksum: opened.checksum,
    real: await featuresOf(opened, real, signal, progress(0)),
    generated: await featuresOf(opened, generated, signal, progress(real.count)),
  }));
  const logits =
    logits_extractor === null
      ? undefined
      : await withExtractor(await open(logits_extractor), async (opened) => ({
          name: opened.name,
          checksum: opened.checksum,
          values: await featuresOf(opened, generated, signal, progress(real.count + generated.count)),
        }));
  const prdc = await precisionRecallDensityCoverage(features.real, features.generated, { nearest_k, signal });
  return {
    extractor: { name: features.name, checksum: features.checksum },
    logits_extractor: logits ? { name: logits.name, checksum: logits.checksum } : null,
    metrics: {
      fid: frechetDistance(gaussian(features.real), gaussian(features.generated)),
      inception_score: logits ? inceptionScore(logits.values, { splits: is_splits }).mean : null,
      ...prdc,
    },
  };
}

async function withExtractor<T>(
  extractor: FeatureExtractor,
  use: (extractor: FeatureExtractor) => Promise<T>,
): Promise<T> {
  try {
    return await use(extractor);
  } finally {
    await extractor.dispose();
  }
}

async function featuresOf(
  extractor: FeatureExtractor,
  { count, image: imageAt }: MeasuredImages,
  signal: AbortSignal,
  onDone: (images: number) => void,
): Promise<PointCloud> {
  const data = new Float32Array(count * extractor.dims);
  for (let first = 0; first < count; first += GROUP) {
    signal.throwIfAborted();
    // A set that is too large for memory reads every image into the same buffer.
    const group = Array.from({ length: Math.min(GROUP, count - first) }, (_, i) => {
      const image = imageAt(first + i);
      return { ...image, data: image.data.slice() };
    });
    data.set(await extractor.extract(group), first * extractor.dims);
    onDone(first + group.length);
  }
  return { data, count, dims: extractor.dims };
}

function gaussian({ data, dims }: PointCloud) {
  const statistics = new FeatureStatistics(dims);
  statistics.add(data);
  return statistics.gaussian();
}
