import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type ImageSet, imagesFromArray } from '../../src/datasets/index.ts';
import { ConfigError } from '../../src/errors.ts';
import { passOver } from '../../src/evaluation/feature-pass.ts';
import { openImages, randomPart } from '../../src/evaluation/image-sources.ts';
import type { FeatureExtractor } from '../../src/evaluation/index.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { readJsonFile, stringifySorted } from '../../src/files/json.ts';
import { npyBytes, parseNpyArray } from '../../src/files/npy.ts';
import { exists } from '../../src/files/regular-file.ts';
import {
  createBlockGemm,
  FeatureStatistics,
  frechetDistance,
  kernelDistance,
  precisionRecallDensityCoverage,
} from '../../src/metrics/index.ts';
import type { PointCloud } from '../../src/metrics/metric.ts';
import * as z from '../../src/zod.ts';
import { type CellRecord, cellName, SAMPLES_FILE } from './study.ts';

const finite = z.number().check(z.refine(Number.isFinite));
export const metricsSchema = z.strictObject({
  fid: finite,
  kid_mean: finite,
  precision: finite,
  recall: finite,
  density: finite,
  coverage: finite,
});
export const extractorSchema = z.strictObject({ name: z.string(), checksum: z.string() });
const measuresSchema = z.strictObject({
  extractor: extractorSchema,
  real_images: z.int(),
  metrics: metricsSchema,
});
/** What `metrics.json` of a cell holds. */
export type CellMeasures = z.output<typeof measuresSchema>;

export const METRICS_FILE = 'metrics.json';
const NEAREST_K = 5;
/** Images that go through the extractor at a time. */
const BATCH = 64;

/** The samples of a finished cell. @throws {ConfigError} when the file is not as the record says. */
export async function cellSamples(folder: string, { cell, samples }: CellRecord): Promise<ImageSet> {
  const file = path.join(folder, SAMPLES_FILE);
  const data = await readFile(file);
  const { count, ...shape } = samples;
  if (data.length !== count * shape.height * shape.width * shape.channels)
    throw new ConfigError(`${file} has ${data.length} bytes, not the ${count} images of its record`);
  return imagesFromArray(data, { ...shape, name: `samples of ${cell.set}, λ = ${cell.lambda}` });
}

/** The measures of a cell; undefined where there are none yet. */
export async function cellMeasures(folder: string): Promise<CellMeasures | undefined> {
  const file = path.join(folder, METRICS_FILE);
  return (await exists(file)) ? readJsonFile(file, measuresSchema) : undefined;
}

/**
 * Measures the samples of a cell against all images of its set, and writes `metrics.json`.
 *
 * @param features the folder in which features are kept.
 */
export async function measureCell(
  folder: string,
  record: CellRecord,
  real: ImageSet,
  extractor: FeatureExtractor,
  features: string,
): Promise<void> {
  const name = `${record.cell.set}-${extractor.checksum.slice(0, 8)}.npy`;
  const realFeatures = await keptFeatures(path.join(features, name), real, extractor);
  const samples = await cellSamples(folder, record);
  const fakeFeatures = await keptFeatures(path.join(features, cellName(record.cell), name), samples, extractor);
  const block_products = await createBlockGemm('cpu');
  try {
    const { mean: kid_mean } = await kernelDistance(realFeatures, fakeFeatures, { block_products });
    const prdc = await precisionRecallDensityCoverage(realFeatures, fakeFeatures, {
      nearest_k: NEAREST_K,
      block_products,
    });
    const fid = frechetDistance(statisticsOf(realFeatures), statisticsOf(fakeFeatures));
    const measures: CellMeasures = {
      extractor: { name: extractor.name, checksum: extractor.checksum },
      real_images: real.count,
      metrics: { fid, kid_mean, ...prdc },
    };
    await writeFileAtomic(path.join(folder, METRICS_FILE), stringifySorted(measures));
  } finally {
    await block_products.dispose();
  }
}

/** A measurement that was stopped has them already; and all cells of a set need those of the real images. */
async function keptFeatures(file: string, images: ImageSet, extractor: FeatureExtractor): Promise<PointCloud> {
  if (await exists(file)) {
    const { data, shape } = parseNpyArray(await readFile(file), file);
    if (shape[0] === images.count && shape[1] === extractor.dims)
      return { data: Float32Array.from(data), count: images.count, dims: extractor.dims };
  }
  const { count } = images;
  const { dims } = extractor;
  const opened = await openImages(images, {
    split: undefined,
    select: randomPart(undefined, 0),
    strict: true,
    warn: console.warn,
  });
  const use = { extractor, statistics: false, features: true };
  const [found] = await passOver(opened, [use], { batchSize: BATCH, channels: opened.channels });
  const data = found?.features ?? new Float32Array();
  await writeFileAtomic(file, npyBytes(data, [count, dims]));
  return { data, count, dims };
}

function statisticsOf({ data, dims }: PointCloud) {
  const statistics = new FeatureStatistics(dims);
  statistics.add(data);
  return statistics.gaussian();
}
