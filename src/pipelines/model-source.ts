import { stat } from 'node:fs/promises';
import path from 'node:path';
import { InvalidArgumentError } from '../errors.ts';
import { pipelineFiles } from '../hub/pipeline-folder.ts';

/**
 * The folder a `model` argument names, by transformers.js's convention: what begins with `./`, `../` or `/` is a local
 * path, `owner/name` a Hub id. A relative path without the dot is taken too where it is the folder of a pipeline.
 *
 * @throws {InvalidArgumentError} for a Hub id, or when nothing was named.
 */
export async function localPipelineFolder(model: string | null | undefined): Promise<string> {
  if (typeof model !== 'string' || model === '')
    throw new InvalidArgumentError(
      "no model was named: pass the folder of a saved pipeline, such as './runs/swiss-roll/pipeline'",
    );
  if (/^\.{1,2}([/\\]|$)/.test(model) || path.isAbsolute(model)) return model;
  const isPipeline = await stat(path.join(model, pipelineFiles.modelIndex)).then(
    (status) => status.isFile(),
    () => false,
  );
  if (isPipeline) return model;
  throw new InvalidArgumentError(
    `'${model}' is no local folder with a ${pipelineFiles.modelIndex}, and pipelines cannot be downloaded from the Hugging Face Hub yet: download it and pass its folder, such as './${path.basename(model)}'`,
  );
}
