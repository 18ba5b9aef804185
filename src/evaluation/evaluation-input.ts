import path from 'node:path';
import type { ImageSet } from '../datasets/images/image-set.ts';
import { OXFORD_SETS } from '../datasets/images/sources/oxford.ts';
import type { PointSet } from '../datasets/points/points.ts';
import { SYNTHETIC_SETS } from '../datasets/points/synthetic.ts';
import { InvalidArgumentError } from '../errors.ts';
import { exists, isFile, isFolder } from '../files/regular-file.ts';
import { pipelineFolderOf } from '../hub/open-pretrained.ts';
import { pipelineFiles, readPipelineFolder } from '../hub/pipeline-folder.ts';
import type { GaussianStatistics } from '../metrics/frechet/feature-statistics.ts';
import { readStatistics } from '../metrics/frechet/statistics-file.ts';
import { modelFromConfig } from '../models/model-from-config.ts';
import type { UnconditionalImageGenerationPipeline } from '../pipelines/unconditional-image-generation.ts';
import type { UnconditionalPointGenerationPipeline } from '../pipelines/unconditional-point-generation.ts';

/** Real samples: a path or a name, a loaded set, or statistics of features. */
export type RealInput = string | ImageSet | PointSet | GaussianStatistics;
/** Generated samples: what real ones can be, or a saved or loaded pipeline. */
export type FakeInput =
  | RealInput
  | UnconditionalImageGenerationPipeline
  | UnconditionalPointGenerationPipeline;

/** An input once it is known what it is; large things are not loaded yet. */
export type EvaluationInput =
  | { readonly kind: 'statistics'; readonly name: string; readonly statistics: GaussianStatistics }
  | { readonly kind: 'images'; readonly source: string | ImageSet }
  | { readonly kind: 'points'; readonly source: string | PointSet }
  | { readonly kind: 'image-pipeline'; readonly source: string | UnconditionalImageGenerationPipeline }
  | { readonly kind: 'point-pipeline'; readonly source: string | UnconditionalPointGenerationPipeline };

/**
 * Finds out what an input is.
 *
 * @param role how messages call it.
 * @throws {InvalidArgumentError} when it is nothing that is known.
 * @throws {StatisticsFileError} for a damaged `.npz`, and the errors of a pipeline folder.
 */
export async function identify(role: 'real' | 'fake', input: FakeInput): Promise<EvaluationInput> {
  if (typeof input === 'string') return identifySource(role, input);
  if ('task' in input)
    return input.task === 'unconditional-image-generation'
      ? { kind: 'image-pipeline', source: input }
      : { kind: 'point-pipeline', source: input };
  if ('pixels' in input) return { kind: 'images', source: input };
  if ('scaler' in input) return { kind: 'points', source: input };
  return { kind: 'statistics', name: `${role} statistics`, statistics: input };
}

async function identifySource(role: string, source: string): Promise<EvaluationInput> {
  if (Object.hasOwn(SYNTHETIC_SETS, source)) return { kind: 'points', source };
  if (source === 'digits' || OXFORD_SETS.some(({ name }) => name === source))
    return { kind: 'images', source };
  if (await isFolder(source)) return identifyFolder(source);
  const extension = path.extname(source).toLowerCase();
  if (extension === '.npz')
    return { kind: 'statistics', name: source, statistics: await readStatistics(source) };
  if (extension === '.csv' || extension === '.npy') return { kind: 'points', source };
  if (extension === '.onnx') return { kind: 'image-pipeline', source };
  if (await exists(source)) return { kind: 'images', source };
  if (role === 'fake' && /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(source))
    return identifyFolder(await pipelineFolderOf(source));
  const named = [...Object.keys(SYNTHETIC_SETS), 'digits', ...OXFORD_SETS.map(({ name }) => name)];
  throw new InvalidArgumentError(
    `${role} '${source}' does not exist and is no data set: give ${named.join(', ')}, a folder or file of images, a .csv or .npy file of points, ${role === 'fake' ? 'a pipeline folder, ' : ''}or an .npz file of statistics`,
  );
}

async function identifyFolder(folder: string): Promise<EvaluationInput> {
  const has = (file: string) => isFile(path.join(folder, file));
  if (!(await has(pipelineFiles.modelIndex)) && !(await has(pipelineFiles.flatConfig)))
    return { kind: 'images', source: folder };
  const { unetConfig } = await readPipelineFolder(folder, { require: [] });
  const points = modelFromConfig(unetConfig).sampleShape.length === 1;
  return { kind: points ? 'point-pipeline' : 'image-pipeline', source: path.resolve(folder) };
}
