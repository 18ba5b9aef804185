import type { AllTasks, PipelineType, PretrainedModelOptions } from '@huggingface/transformers';
import { InvalidArgumentError } from '../errors.ts';
import { importTransformers } from '../hub/environment.ts';
import type { PipelineSource } from '../hub/pipeline-source.ts';
import type { UnconditionalImageGenerationPipeline } from './image-pipeline.ts';
import type { ImagePipelineOptions } from './load.ts';
import type { PointPipelineOptions, UnconditionalPointGenerationPipeline } from './points.ts';

/**
 * transformers.js's `pipeline()`, with the diffusion tasks added: one changed import is the whole migration.
 *
 * - `unconditional-point-generation`: samples of a model that was trained on points; see
 *   `UnconditionalPointGenerationPipeline`. `model` is the folder of a saved pipeline, or a Hub id; or the URL of such a
 *   folder, a zip file of one (`File`, `Blob` or bytes), or a store that holds one.
 * - `unconditional-image-generation`: images of a DDPM, of this package or of diffusers; see
 *   `UnconditionalImageGenerationPipeline`.
 * - every other task is handed on to `@huggingface/transformers` with the same arguments.
 *
 * @throws {InvalidArgumentError} when an option is wrong.
 * @throws {HubError} when a model on the Hub cannot be downloaded.
 * @throws {FileFormatError} when the folder is incomplete or damaged; its subclass names the file format.
 * @throws {DeviceError} when the device is not there.
 * @example
 * import { pipeline } from 'iso-diffusion';
 * const generate = await pipeline('unconditional-point-generation', './runs/swiss-roll/pipeline');
 * const { points, dims } = await generate({ batch_size: 1000, seed: 0 });
 * // dims: [1000, 2]; points: Float32Array of 2000 values, in the units of the training data
 */
export function pipeline(
  task: 'unconditional-point-generation',
  model: string | PipelineSource,
  options?: PointPipelineOptions,
): Promise<UnconditionalPointGenerationPipeline>;
export function pipeline(
  task: 'unconditional-image-generation',
  model: string | PipelineSource,
  options?: ImagePipelineOptions,
): Promise<UnconditionalImageGenerationPipeline>;
export function pipeline<Task extends PipelineType>(
  task: Task,
  model?: string,
  options?: PretrainedModelOptions,
): Promise<AllTasks[Task]>;
export async function pipeline(
  task: 'unconditional-point-generation' | 'unconditional-image-generation' | PipelineType,
  model?: string | PipelineSource,
  options?: PointPipelineOptions | ImagePipelineOptions | PretrainedModelOptions,
): Promise<unknown> {
  if (typeof task !== 'string')
    throw new InvalidArgumentError(
      `the task must be a text such as 'unconditional-image-generation', not ${String(task)}`,
    );
  // A page that only trains loads neither, one that draws points not what decodes images.
  if (task === 'unconditional-point-generation') {
    const { loadUnconditionalPointGeneration } = await import('./points.ts');
    return loadUnconditionalPointGeneration(model, options as PointPipelineOptions);
  }
  if (task === 'unconditional-image-generation') {
    const { loadUnconditionalImageGeneration } = await import('./images.ts');
    return loadUnconditionalImageGeneration(model, options as ImagePipelineOptions);
  }
  const transformers = await importTransformers();
  return transformers.pipeline(task, model as string, options as PretrainedModelOptions);
}
