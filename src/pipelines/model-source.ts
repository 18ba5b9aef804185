import { stat } from 'node:fs/promises';
import path from 'node:path';
import { InvalidArgumentError } from '../errors.ts';
import { downloadSnapshot, type HubOptions } from '../hub/hub-snapshot.ts';
import { pipelineFiles } from '../hub/pipeline-folder.ts';

/** How a model is found, named as transformers.js names it. */
export type ModelSourceOptions = Pick<
  HubOptions,
  'revision' | 'cache_dir' | 'local_files_only' | 'progress_callback' | 'token'
>;

/**
 * The folder a `model` argument names, by transformers.js's convention: what begins with `./`, `../` or `/` is a local
 * path, `owner/name` a Hub id, which is downloaded. A relative path without the dot is taken too where it is the folder
 * of a pipeline.
 *
 * @throws {InvalidArgumentError} when nothing was named, or what is no path and no Hub id.
 * @throws {HubError} when the download fails.
 */
export async function pipelineFolderOf(
  model: string | null | undefined,
  options: ModelSourceOptions = {},
): Promise<string> {
  if (typeof model !== 'string' || model === '')
    throw new InvalidArgumentError(
      "no model was named: pass the folder of a saved pipeline, such as './runs/swiss-roll/pipeline', or a Hub id",
    );
  if (/^\.{1,2}([/\\]|$)/.test(model) || path.isAbsolute(model)) return model;
  for (const file of [pipelineFiles.modelIndex, pipelineFiles.flatConfig])
    if (await isFile(path.join(model, file))) return model;
  return downloadSnapshot(model, options);
}

async function isFile(file: string): Promise<boolean> {
  return (await stat(file).catch(() => undefined))?.isFile() ?? false;
}
