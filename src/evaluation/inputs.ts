import { dataSetKind, IMAGE_SET_NAMES } from '#datasets/named-data-set';
import * as path from '#platform/path';
import type { ImageSet } from '../datasets/images/image-set.ts';
import { loadPoints } from '../datasets/points/load-points.ts';
import { isPointFile, POINT_FILES } from '../datasets/points/point-files.ts';
import { applyScaler, invertScaler, type PointSet, type Scaler } from '../datasets/points/points.ts';
import type { HubPart } from '../datasets/points/stored-points.ts';
import { SYNTHETIC_SETS } from '../datasets/points/synthetic.ts';
import { InvalidArgumentError } from '../errors.ts';
import { exists, isFolder } from '../files/regular-file.ts';
import { HUB_ID } from '../hub/hub-options.ts';
import { isPipelineFolder, pipelineFolderOf, readPipelineFolder } from '../hub/open-pretrained.ts';
import { checkShape, type GaussianStatistics } from '../metrics/frechet/statistics.ts';
import { readStatistics } from '../metrics/frechet/statistics-file.ts';
import type { UnconditionalImageGenerationPipeline } from '../pipelines/image-pipeline.ts';
import { drawsPoints } from '../pipelines/load.ts';
import { loadUnconditionalPointGeneration, type UnconditionalPointGenerationPipeline } from '../pipelines/points.ts';
import type { EvaluateOptions, EvaluateSettings, FakeInput } from './options.ts';

/** A recognised input. Large data are not loaded yet. */
export type EvaluationInput =
  | { readonly kind: 'statistics'; readonly name: string; readonly statistics: GaussianStatistics }
  | { readonly kind: 'images'; readonly source: string | ImageSet }
  | { readonly kind: 'points'; readonly source: string | PointSet }
  | { readonly kind: 'image-pipeline'; readonly source: string | UnconditionalImageGenerationPipeline }
  | { readonly kind: 'point-pipeline'; readonly source: string | UnconditionalPointGenerationPipeline };

/**
 * Finds out what an input is.
 *
 * @param role its name in messages. @param part what is read of a data set of the Hub.
 * @throws {InvalidArgumentError} when it is not one of the inputs above.
 * @throws {StatisticsFileError} for a damaged `.npz`, and the errors of a pipeline folder.
 */
export async function identify(role: 'real' | 'fake', input: FakeInput, part: HubPart = {}): Promise<EvaluationInput> {
  if (typeof input === 'string') return identifySource(role, input, part);
  if ((typeof input !== 'object' && typeof input !== 'function') || input === null)
    throw new InvalidArgumentError(
      `${role} must be a path, a data set, a pipeline or statistics, not ${input === null ? 'null' : typeof input}`,
    );
  if ('task' in input)
    return input.task === 'unconditional-image-generation'
      ? { kind: 'image-pipeline', source: input }
      : { kind: 'point-pipeline', source: input };
  if ('pixels' in input) return { kind: 'images', source: input };
  if ('scaler' in input) return { kind: 'points', source: input };
  checkShape(input);
  return { kind: 'statistics', name: `${role} statistics`, statistics: input };
}

async function identifySource(role: string, source: string, part: HubPart): Promise<EvaluationInput> {
  if (Object.hasOwn(SYNTHETIC_SETS, source)) return { kind: 'points', source };
  if (IMAGE_SET_NAMES.includes(source)) return { kind: 'images', source };
  if (await isFolder(source)) return identifyFolder(source);
  const extension = path.extname(source).toLowerCase();
  if (extension === '.npz') return { kind: 'statistics', name: source, statistics: await readStatistics(source) };
  if (isPointFile(source)) return { kind: 'points', source };
  if (extension === '.onnx') return { kind: 'image-pipeline', source };
  if (await exists(source)) return { kind: 'images', source };
  if (HUB_ID.test(source))
    return role === 'fake'
      ? identifyFolder(await pipelineFolderOf(source))
      : { kind: await dataSetKind(source, part), source };
  const named = [...Object.keys(SYNTHETIC_SETS), ...IMAGE_SET_NAMES];
  throw new InvalidArgumentError(
    `${role} '${source}' does not exist and is not a data set: give ${named.join(', ')}, a folder or file of images, a ${POINT_FILES} file of points, ${role === 'fake' ? 'a pipeline folder, ' : ''}or an .npz file of statistics`,
  );
}

async function identifyFolder(folder: string): Promise<EvaluationInput> {
  if (!(await isPipelineFolder(folder))) {
    // The folder of a run, as `generate` takes it too: its plots and samples are not those of an evaluation.
    const ofRun = path.join(folder, 'pipeline');
    return (await isPipelineFolder(ofRun)) ? identifyFolder(ofRun) : { kind: 'images', source: folder };
  }
  const points = await drawsPoints(await readPipelineFolder(folder, { require: [] }));
  return { kind: points ? 'point-pipeline' : 'image-pipeline', source: path.resolve(folder) };
}

/** What is read of real samples of the Hub, by the options of an evaluation. */
export function hubPart({ split, dataset_config_name, dataset_revision, cache_dir }: EvaluateSettings): HubPart {
  return { split, dataset_config_name, revision: dataset_revision, cache_dir };
}

/** Real and generated points in the same units. */
interface PointPair {
  readonly real: PointSet;
  readonly fake: PointSet;
}

/**
 * A pipeline is compared in its own units: the real points are scaled as its training data was. Stored points are
 * compared in the units of the real set; of a file, after scaling by its minimum and maximum.
 */
export async function loadPointPair(
  real: EvaluationInput,
  fake: EvaluationInput,
  settings: EvaluateSettings,
  options: Omit<EvaluateOptions, 'real' | 'fake'>,
): Promise<PointPair> {
  if (real.kind !== 'points')
    throw new InvalidArgumentError(`the generated samples are points, but the real ones are ${real.kind}`);
  const { num_samples, num_real = num_samples, data_seed } = settings;
  const { on_warning } = options;
  const loadReal = (scaling: 'min-max' | 'none') =>
    typeof real.source === 'string'
      ? loadPoints(real.source, { n: num_real, seed: data_seed, scaling, on_warning, ...hubPart(settings) })
      : Promise.resolve(firstPoints(real.source, num_real));
  if (fake.kind === 'point-pipeline') return fromPipeline(await loadReal('none'), fake.source, settings, options);
  if (fake.kind !== 'points')
    throw new InvalidArgumentError(`the real samples are points, but the generated ones are ${fake.kind}`);
  const realPoints = await loadReal('min-max');
  const fakePoints =
    typeof fake.source === 'string'
      ? await loadPoints(fake.source, { n: num_samples, seed: settings.seed, scaling: 'none' })
      : firstPoints(fake.source, num_samples);
  refuseOtherOrder(realPoints, fakePoints);
  return { real: realPoints, fake: rescaled(fakePoints, realPoints.scaler) };
}

/** @throws {InvalidArgumentError} for points with the same columns in another order. */
function refuseOtherOrder(real: PointSet, fake: PointSet): void {
  const sorted = ({ columns = [] }: PointSet) => JSON.stringify([...columns].sort());
  if (sorted(real) !== sorted(fake) || JSON.stringify(real.columns) === JSON.stringify(fake.columns)) return;
  throw new InvalidArgumentError(
    `the columns of ${real.name} are ${real.columns?.join(', ')}, and those of ${fake.name} are ${fake.columns?.join(', ')}: put them into the same order`,
  );
}

async function fromPipeline(
  raw: PointSet,
  source: Extract<EvaluationInput, { kind: 'point-pipeline' }>['source'],
  settings: EvaluateSettings,
  { generation, signal, on_progress }: Omit<EvaluateOptions, 'real' | 'fake'>,
): Promise<PointPair> {
  const { device, device_id } = settings;
  const draw =
    typeof source === 'string' ? await loadUnconditionalPointGeneration(source, { device, device_id }) : source;
  try {
    const { points, dims } = await draw({
      num_inference_steps: generation?.num_inference_steps,
      scheduler: generation?.scheduler,
      eta: generation?.eta,
      iso_lambda: generation?.iso_lambda,
      noise_scale: generation?.noise_scale,
      batch_size: settings.num_samples ?? raw.count,
      seed: settings.seed,
      output_type: 'scaled',
      on_progress: (fraction) => on_progress?.(fraction, 'fake'),
      signal,
    });
    const { scaler, columns } = draw;
    const name = typeof source === 'string' ? source : 'pipeline';
    const fake = { data: points, count: dims[0], dims: dims[1], name, scaler, columns };
    refuseOtherOrder(raw, fake);
    return { real: rescaled(raw, scaler), fake };
  } finally {
    if (typeof source === 'string') await draw.dispose();
  }
}

/** The points in the units of another scaler. Points of other dimensions stay: the metric refuses them. */
function rescaled(points: PointSet, scaler: Scaler): PointSet {
  const same = JSON.stringify(points.scaler) === JSON.stringify(scaler);
  if (same || scaler.scale.length !== points.dims) return points;
  const raw = invertScaler(points.scaler, points.data, points.dims);
  return { ...points, data: applyScaler(scaler, raw, points.dims), scaler };
}

function firstPoints(points: PointSet, wanted = points.count): PointSet {
  const count = Math.min(wanted, points.count);
  return { ...points, count, data: points.data.subarray(0, count * points.dims) };
}
