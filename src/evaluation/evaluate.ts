import { createHash } from '#platform/hash';
import { warn as warnUser } from '#platform/system';
import { requireText } from '../arguments.ts';
import { type Communicator, SINGLE } from '../distributed/communicator.ts';
import { InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { readWholeFile } from '../files/regular-file.ts';
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
import type { FoundForms } from './image-features.ts';
import type { Share } from './image-sources.ts';
import { evaluateImages, partOfImages } from './images.ts';
import { type EvaluationInput, hubPart, identify, loadPointPair } from './inputs.ts';
import {
  checkedSettings,
  DEFAULT_METRICS,
  type EvaluateOptions,
  type EvaluateSettings,
  type EvaluationReport,
} from './options.ts';
import { joinParts, reportOf } from './parts/merge.ts';
import { type EvaluationPart, EvaluationPartError, parsePart, partChunks } from './parts/part.ts';

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
 */
export async function evaluateWith(
  options: EvaluateOptions,
  kept: ReadonlyMap<string, FeatureExtractor>,
): Promise<EvaluationReport> {
  // A process by itself is the first rank.
  return (await evaluateOnRanks(options, SINGLE, kept)) as EvaluationReport;
}

/**
 * `evaluate` on all ranks together: each draws and reads its share of the images and takes their features.
 *
 * @param ranks the processes that make the same call. @param kept as for `evaluateWith`.
 * @returns on rank 0, which has what all found; undefined on the others.
 */
export async function evaluateOnRanks(
  options: EvaluateOptions,
  ranks: Communicator,
  kept: ReadonlyMap<string, FeatureExtractor> = new Map(),
): Promise<EvaluationReport | undefined> {
  const { kind, chosen, real, fake, settings } = await compared(options);
  if (kind === 'images') return evaluateImages({ possible: chosen, real, fake, settings, options, kept }, ranks);
  if (ranks.rank > 0) return undefined;
  if (real.kind === 'statistics' && fake.kind === 'statistics')
    return evaluateStatistics(chosen, real, fake, settings, options);
  return evaluatePoints(chosen, real, fake, settings, options);
}

/**
 * One of several shares of an evaluation of images, for processes that cannot talk to each other: it draws and reads whole
 * batches, takes their features, and writes what the metrics need of them into a file.
 *
 * @param share [i, n], the i-th, from 1, of n.
 * @param file of safetensors, which is written whole or not at all.
 * @throws {InvalidArgumentError} for points, a share that is none, and options that need all images at once.
 * @throws what `evaluate` throws.
 * @example
 * await evaluateShare({ real: './photos', fake: './generated' }, [1, 2], 'part-1.safetensors');
 */
export async function evaluateShare(
  options: EvaluateOptions,
  share: readonly [index: number, shares: number],
  file: string,
): Promise<void> {
  return evaluateShareWith(options, share, file, {});
}

/**
 * `evaluateShare` of one evaluation after another.
 *
 * @param known.kept extractors that are loaded already, as for `evaluateWith`.
 * @param known.ofReal what the share of the real images gave; the first evaluation fills it.
 */
export async function evaluateShareWith(
  options: EvaluateOptions,
  share: Share,
  file: string,
  {
    kept = new Map(),
    ofReal = {},
  }: { readonly kept?: ReadonlyMap<string, FeatureExtractor> | undefined; readonly ofReal?: FoundForms },
): Promise<void> {
  requireText('the file of the share', file);
  const [index, shares] = share;
  if (!(Number.isSafeInteger(index) && Number.isSafeInteger(shares) && index >= 1 && index <= shares))
    throw new InvalidArgumentError(`the share is ${index}/${shares}, but must be i/n with i from 1 to n`);
  const { kind, chosen, real, fake, settings } = await compared(options);
  if (kind !== 'images')
    throw new InvalidArgumentError(`a share is of images, but these samples are ${kind}: one process compares them`);
  if (settings.contact_sheets !== undefined)
    throw new InvalidArgumentError('contact_sheets need all images at once: leave them out of a share');
  const part = await partOfImages({ possible: chosen, real, fake, settings, options, kept }, share, ofReal);
  await writeFileAtomic(file, partChunks(part));
}

/**
 * The report of an evaluation whose shares were written by `evaluateShare`: that of one process. FID can differ in the last
 * digits, because statistics are summed in another order.
 *
 * @param files those of all shares, in any order.
 * @example
 * const report = await mergeEvaluation(['part-1.safetensors', 'part-2.safetensors']);
 * @throws {EvaluationPartError} when a share is missing, damaged, or of another evaluation.
 */
export async function mergeEvaluation(
  files: readonly string[],
  options: Pick<EvaluateOptions, 'on_progress' | 'signal'> = {},
): Promise<EvaluationReport> {
  const parts: EvaluationPart[] = [];
  for (const file of files)
    parts.push(await parsePart(await readWholeFile(file, MAX_PART_BYTES, EvaluationPartError), file));
  const joined = joinParts(parts);
  return reportOf(parts[0] as EvaluationPart, joined, options);
}

/** The most that one array of bytes holds everywhere. */
const MAX_PART_BYTES = 2 ** 32;

/** What is compared, and by which metrics. Large data are not loaded yet. */
async function compared(options: EvaluateOptions) {
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
  const standard: readonly string[] =
    DEFAULT_METRICS[isOfPoints ? 'points' : isStatistics.real || isStatistics.fake ? 'statistics' : 'images'];
  const chosen = settings.metrics ? possible : possible.filter(({ name }) => standard.includes(name));
  refuseWithoutSamples(chosen, isStatistics);
  if (settings.contact_sheets !== undefined) await prepareContactSheets(settings.contact_sheets, chosen, {});
  const kind = isStatistics.real && isStatistics.fake ? 'statistics' : isOfPoints ? 'points' : 'images';
  if (kind !== 'statistics') refuseOtherKinds(chosen, kind);
  return { kind, chosen, real, fake, settings } as const;
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
