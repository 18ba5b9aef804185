import path from 'node:path';
import { FileFormatError, InvalidArgumentError } from '../errors.ts';
import { isFile } from '../files/regular-file.ts';
import { downloadSnapshot, type HubOptions } from './hub-snapshot.ts';
import {
  type PipelineFolder,
  pipelineFiles,
  type ReadPipelineOptions,
  readPipelineFolder,
} from './pipeline-folder.ts';
import { adviceOnPickle, isPickle } from './weight-files.ts';

/** How a model is found, named as transformers.js and diffusers name it. */
export type PretrainedOptions = Pick<
  HubOptions,
  'revision' | 'variant' | 'cache_dir' | 'local_files_only' | 'progress_callback' | 'token'
>;

/**
 * Opens the pipeline that a `model` argument names; see {@link pipelineFolderOf}.
 *
 * @param options.require see `readPipelineFolder`; default the weights.
 * @throws {FileFormatError} when the folder or a required file is missing.
 */
export async function openPretrained(
  model: string | null | undefined,
  { require = ['weights'], ...options }: PretrainedOptions & Pick<ReadPipelineOptions, 'require'> = {},
): Promise<PipelineFolder> {
  return readPipelineFolder(await pipelineFolderOf(model, options), { require, variant: options.variant });
}

/**
 * The folder that a `model` argument names, by transformers.js's convention: what begins with `./`, `../` or `/` is a
 * local path, `owner/name` a Hub id, which is downloaded. A relative path without the dot is taken too where it is the
 * folder of a pipeline.
 *
 * @throws {InvalidArgumentError} when nothing was named, or what is no path and no Hub id.
 * @throws {HubError} when the download fails.
 * @throws {FileFormatError} when a pickle was named, which is never opened.
 */
export async function pipelineFolderOf(
  model: string | null | undefined,
  options: PretrainedOptions = {},
): Promise<string> {
  if (typeof model !== 'string' || model === '')
    throw new InvalidArgumentError(
      "no model was named: pass the folder of a saved pipeline, such as './runs/swiss-roll/pipeline', or a Hub id",
    );
  if (/^\.{1,2}([/\\]|$)/.test(model) || path.isAbsolute(model)) return model;
  if (isPickle(model)) throw new FileFormatError(adviceOnPickle(model));
  for (const file of [pipelineFiles.modelIndex, pipelineFiles.flatConfig])
    if (await isFile(path.join(model, file))) return model;
  return downloadSnapshot(model, options);
}
