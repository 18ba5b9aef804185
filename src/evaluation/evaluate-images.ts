import { InvalidArgumentError } from '../errors.ts';
import { loadUnconditionalImageGeneration } from '../pipelines/unconditional-image-generation.ts';
import { checkSizes, compareFeatures } from './compare-features.ts';
import {
  DEFAULT_SAMPLES,
  type EvaluateOptions,
  type EvaluateSettings,
  type MetricName,
} from './evaluate-options.ts';
import { type EvaluationImages, featureImages, imagesOfSet, randomPart } from './evaluation-images.ts';
import type { EvaluationInput } from './evaluation-input.ts';
import type { EvaluationReport, ReportedExtractor } from './evaluation-report.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import { resolveExtractor } from './extractors/resolve-extractor.ts';
import { probeExtractor } from './feature-pass.ts';
import { type Extractors, featuresOfFake, featuresOfReal, type Side } from './image-features.ts';
import { storedImages } from './stored-images.ts';

/** `evaluate` for images, on one side or on both. */
export async function evaluateImages(
  realInput: EvaluationInput,
  fakeInput: EvaluationInput,
  settings: EvaluateSettings,
  options: EvaluateOptions,
): Promise<EvaluationReport> {
  const metrics = chosenMetrics(realInput, fakeInput, settings);
  const opened: { dispose(): Promise<void> }[] = [];
  const keep = <T extends { dispose(): Promise<void> }>(resource: T): T => {
    opened.push(resource);
    return resource;
  };
  try {
    const real = keep(await openSide(realInput, settings, options, settings.num_real));
    const fake = keep(await openSide(fakeInput, settings, options, settings.num_samples));
    checkSizes(metrics, real.count, fake.count, settings);
    const channels: 1 | 3 = [real, fake].every(({ images }) => (images?.channels ?? 1) === 1) ? 1 : 3;
    const shape = real.images ?? fake.images;
    const extractors = keep(await loadExtractors(metrics, shape, channels, settings, options));
    // Before the real images are gone through: an extractor may not take the size of the generated ones.
    if (fake.images) await probeExtractor(extractors.features, fake.images, channels);
    const comparison = { metrics, channels, extractors, settings, options };
    const realSide = await featuresOfReal(real, comparison);
    const fakeSide = await featuresOfFake(fake, comparison);
    return {
      metrics: await compareFeatures(metrics, realSide, fakeSide, settings, options),
      real: { name: real.name, count: real.count },
      fake: { name: fake.name, count: fake.count },
      extractor: reported(extractors.features),
      ...(extractors.logits ? { logits_extractor: reported(extractors.logits) } : {}),
      settings: reportedSettings(metrics, settings),
    };
  } finally {
    for (const resource of opened.reverse()) await resource.dispose();
  }
}

function chosenMetrics(
  real: EvaluationInput,
  fake: EvaluationInput,
  { metrics }: EvaluateSettings,
): readonly MetricName[] {
  const hasStatistics = [real, fake].some(({ kind }) => kind === 'statistics');
  if (!metrics) return hasStatistics ? ['fid'] : ['fid', 'kid', 'prdc'];
  const impossible = metrics.find(
    (metric) => hasStatistics && metric !== 'fid' && !(metric === 'is' && fake.kind !== 'statistics'),
  );
  if (!impossible) return metrics;
  throw new InvalidArgumentError(
    `'${impossible}' compares images one by one, but one side is a file of statistics, which gives 'fid' only`,
  );
}

async function openSide(
  input: EvaluationInput,
  settings: EvaluateSettings,
  options: EvaluateOptions,
  wanted: number | undefined,
): Promise<Side> {
  const nothing = async () => {};
  if (input.kind === 'statistics') return { ...input, count: input.statistics.count, dispose: nothing };
  if (input.kind === 'image-pipeline') return openPipeline(input.source, settings, options, wanted);
  if (input.kind !== 'images')
    throw new InvalidArgumentError(`one side is images, but the other is ${input.kind}`);
  const select = randomPart(wanted, settings.seed);
  const images =
    typeof input.source === 'string'
      ? await storedImages(input.source, {
          select,
          resolution: settings.resolution,
          cacheDir: settings.cache_dir,
          signal: options.signal,
        })
      : imagesOfSet(input.source, select);
  return { name: images.name, count: images.count, images, dispose: nothing };
}

async function openPipeline(
  source: Extract<EvaluationInput, { kind: 'image-pipeline' }>['source'],
  { device, seed }: EvaluateSettings,
  { generation }: EvaluateOptions,
  wanted = DEFAULT_SAMPLES,
): Promise<Side> {
  const owned = typeof source === 'string';
  const draw = owned ? await loadUnconditionalImageGeneration(source, { device }) : source;
  const [channels = 1, height = 1, width = 1] = draw.model.sampleShape;
  const name = owned ? source : 'pipeline';
  const images: EvaluationImages = {
    name,
    count: wanted,
    height,
    width,
    channels: channels === 1 ? 1 : 3,
    fingerprint: undefined,
    async *batches(batch_size, signal) {
      for await (const bytes of draw.batches({ ...generation, count: wanted, batch_size, seed, signal }))
        yield featureImages(bytes);
    },
  };
  return { name, count: wanted, images, dispose: owned ? () => draw.dispose() : async () => {} };
}

async function loadExtractors(
  metrics: readonly MetricName[],
  shape: EvaluationImages | undefined,
  channels: 1 | 3,
  { device, batch_size }: EvaluateSettings,
  { extractor = 'inception', logits_extractor, extractor_options }: EvaluateOptions,
): Promise<Extractors & { dispose(): Promise<void> }> {
  const owned: FeatureExtractor[] = [];
  const load = async (given: FeatureExtractor | string): Promise<FeatureExtractor> => {
    if (typeof given !== 'string') return given;
    const image_shape = shape && { height: shape.height, width: shape.width, channels };
    const loaded = await resolveExtractor(given, { batch_size, ...extractor_options, device, image_shape });
    owned.push(loaded);
    return loaded;
  };
  const logits = logits_extractor ?? (extractor === 'inception' ? 'inception:logits_unbiased' : undefined);
  if (metrics.includes('is') && logits === undefined)
    throw new InvalidArgumentError(
      "'is' needs class logits: give logits_extractor, such as 'inception:logits_unbiased' or 'model.onnx:logits'",
    );
  const dispose = async () => {
    for (const extractor of owned) await extractor.dispose();
  };
  try {
    const logitsExtractor = metrics.includes('is') && logits ? await load(logits) : undefined;
    const onlyLogits = metrics.every((metric) => metric === 'is');
    const features = onlyLogits && logitsExtractor ? logitsExtractor : await load(extractor);
    return { features, logits: logitsExtractor, dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

function reported({ name, checksum, dims }: FeatureExtractor): ReportedExtractor {
  return { name, checksum, dims };
}

/** Only what the computed metrics depend on. */
function reportedSettings(
  metrics: readonly MetricName[],
  { seed, nearest_k, kid_subsets, is_splits }: EvaluateSettings,
): Record<string, number> {
  return {
    seed,
    ...(metrics.includes('kid') ? { kid_subsets } : {}),
    ...(metrics.includes('is') ? { is_splits } : {}),
    ...(metrics.includes('prdc') ? { nearest_k } : {}),
  };
}
