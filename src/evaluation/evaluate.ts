import { createHash } from '#platform/hash';
import { warn as warnUser } from '#platform/system';
import { type Communicator, SINGLE } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import { HUB_ID } from '../hub/hub-options.ts';
import { FeatureStatistics } from '../metrics/frechet/statistics.ts';
import { type PointCloud, requireSameDims } from '../metrics/metric.ts';
import {
  type ChosenMetric,
  chooseMetrics,
  computeMetrics,
  neededForms,
  preparedSide,
  refuseOtherKinds,
  refuseWithoutSamples,
  reportedOptions,
  resolveOptions,
} from './chosen-metrics.ts';
import { writePointSheets } from './contact-sheets/point-sheets.ts';
import { findSelection, prepareContactSheets } from './contact-sheets/record.ts';
import type { FeatureExtractor } from './extractors/feature-extractor.ts';
import { evaluateImages } from './images.ts';
import { type EvaluationInput, hubPart, identify, loadPointPair } from './inputs.ts';
import {
  checkedSettings,
  DEFAULT_METRICS,
  type EvaluateOptions,
  type EvaluateSettings,
  type EvaluationReport,
} from './options.ts';

/**
 * Measures how well generated samples match real ones.
 *
 * Images on either side: anything `loadImages` reads, in its own size (or `resolution`), or a loaded `ImageSet`. `fake`
 * can also be a pipeline: a loaded one, its folder or its Hub id. Images are compared by the features of `extractor`, taken
 * batch by batch. Only metrics that compare features one by one, such as kid and prdc, keep them: count x dims x 4 bytes a
 * side. For 'fid' either side can be an `.npz` file of statistics, as pytorch-fid writes it. Points are compared as they are.
 *
 * @throws {InvalidArgumentError} for wrong options, sides that do not fit together, sets that are too small, or an
 * extractor that does not give one vector an image.
 * @throws {DatasetError} when no image can be read, or not all with `strict`, or they are of different sizes.
 * @throws {ExtractorNotFoundError} when the extractor's weights are missing and cannot be fetched. It says where to put
 * them.
 * @throws {StatisticsFileError} for an `.npz` with wrong keys, shapes or values.
 * @throws `signal.reason` when the signal aborts.
 *
 * @example
 * const report = await evaluate({
 *   real: './photos', fake: './runs/photos/pipeline', metrics: ['fid', 'prdc'], extractor: 'inception', num_samples: 10_000,
 * });
 * console.log(report.metrics.fid, report.extractor.checksum);
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluationReport> {
  return evaluateWith(options, new Map());
}

/**
 * `evaluate` with extractors that are loaded already, and stay so.
 *
 * @param kept by the names that metrics and options give them.
 * @param ranks the processes that make the same call, and share the images; default: this one alone.
 */
export async function evaluateWith(
  options: EvaluateOptions,
  kept: ReadonlyMap<string, FeatureExtractor>,
  ranks: Communicator = SINGLE,
): Promise<EvaluationReport> {
  const settings = checkedSettings(options);
  const possible = chooseMetrics(settings.metrics ?? DEFAULT_METRICS.images, options);
  const real = await identify('real', options.real, hubPart(settings));
  const fake = await identify('fake', options.fake);
  refuseUnusedSplit('split', settings.split, real);
  refuseUnusedSplit('fake_split', settings.fake_split, fake);
  refuseUnusedSplit('dataset_config_name', settings.dataset_config_name, real);
  refuseUnusedSplit('dataset_revision', settings.dataset_revision, real);
  options.signal?.throwIfAborted();
  const isStatistics = { real: real.kind === 'statistics', fake: fake.kind === 'statistics' };
  const isOfPoints = [real, fake].some(({ kind }) => kind === 'points' || kind === 'point-pipeline');
  const kind = isOfPoints ? 'points' : isStatistics.real || isStatistics.fake ? 'statistics' : 'images';
  const standard: readonly string[] = DEFAULT_METRICS[kind];
  const chosen = settings.metrics ? possible : possible.filter(({ name }) => standard.includes(name));
  refuseWithoutSamples(chosen, isStatistics);
  if (settings.contact_sheets !== undefined) await prepareContactSheets(settings.contact_sheets, chosen, {});
  if (real.kind === 'statistics' && fake.kind === 'statistics')
    return evaluateStatistics(chosen, real, fake, settings, options);
  refuseOtherKinds(chosen, isOfPoints ? 'points' : 'images');
  return isOfPoints
    ? evaluatePoints(chosen, real, fake, settings, options)
    : evaluateImages(chosen, real, fake, settings, options, kept, ranks);
}

/** @throws {InvalidArgumentError} when a split or another part is asked for of what has none. */
function refuseUnusedSplit(option: string, split: string | undefined, input: EvaluationInput): void {
  if (split === undefined || (input.kind === 'images' && typeof input.source === 'string')) return;
  if (input.kind === 'points' && typeof input.source === 'string' && HUB_ID.test(input.source)) return;
  const what =
    input.kind === 'images' ? 'a loaded set' : input.kind.endsWith('pipeline') ? 'of a pipeline' : input.kind;
  throw new InvalidArgumentError(
    `${option} is '${split}', but the samples are ${what}: it is for files and folders of images. Leave it out`,
  );
}

type StatisticsInput = Extract<EvaluationInput, { kind: 'statistics' }>;

async function evaluateStatistics(
  possible: readonly ChosenMetric[],
  real: StatisticsInput,
  fake: StatisticsInput,
  { seed }: EvaluateSettings,
  { on_progress, signal }: EvaluateOptions,
): Promise<EvaluationReport> {
  const chosen = resolveOptions(possible, { real: real.statistics.count, fake: fake.statistics.count });
  const sides = { real: preparedSide('real', real), fake: preparedSide('fake', fake) };
  return {
    metrics: await computeMetrics(chosen, () => sides, { seed, on_progress, signal }),
    real: { name: real.name, count: real.statistics.count },
    fake: { name: fake.name, count: fake.statistics.count },
    extractor: { name: 'unknown: statistics of files', checksum: '', dims: real.statistics.dims },
    settings: reportedOptions(chosen),
  };
}

const COORDINATES_CHECKSUM = createHash('sha256').update('coordinates').digest('hex');

async function evaluatePoints(
  possible: readonly ChosenMetric[],
  realInput: EvaluationInput,
  fakeInput: EvaluationInput,
  settings: EvaluateSettings,
  options: EvaluateOptions,
): Promise<EvaluationReport> {
  const { seed, contact_sheets: folder } = settings;
  const { real, fake } = await loadPointPair(realInput, fakeInput, settings, options);
  const counts = { real: real.count, fake: fake.count };
  const chosen = resolveOptions(possible, counts);
  requireSameDims(real, fake);
  if (folder !== undefined) await prepareContactSheets(folder, chosen, counts);
  const prepared = (role: 'real' | 'fake', features: PointCloud) =>
    preparedSide(role, {
      features,
      statistics: neededForms(chosen, role).has('statistics') ? statisticsOf(features) : undefined,
    });
  const sides = { real: prepared('real', real), fake: prepared('fake', fake) };
  const { on_progress, signal, on_warning: warn = warnUser } = options;
  const report: EvaluationReport = {
    metrics: await computeMetrics(chosen, () => sides, { seed, on_progress, signal }),
    real: { name: real.name, count: real.count },
    fake: { name: fake.name, count: fake.count },
    extractor: { name: 'coordinates', checksum: COORDINATES_CHECKSUM, dims: real.dims },
    settings: { seed, ...reportedOptions(chosen) },
  };
  if (folder === undefined) return report;
  const found = await findSelection(chosen, sides.real, sides.fake, options);
  return { ...report, contact_sheets: await writePointSheets({ folder, report, ...found, real, fake, warn }) };
}

function statisticsOf({ data, dims }: PointCloud) {
  const statistics = new FeatureStatistics(dims);
  statistics.add(data);
  return statistics.gaussian();
}
