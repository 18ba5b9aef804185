import path from 'node:path';
import { HubError, InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { isFile } from '../files/regular-file.ts';
import { AUTOENCODERS, adviceOnMissingWeights, isWeightsFile, onnxFiles, weightsFile } from './pipeline-folder.ts';
import { type HubOptions, isFilePath, type ListedFile, Repository } from './repository.ts';

/* Downloads from repositories of models: whole pipelines, or one file. */

/** What a pipeline may need besides weights; demo images and training logs are left out. */
const NEEDED = [
  /^model_index\.json$/,
  /^((unet|unet_ema)\/)?(config\.json|isotropy\.json)$/,
  new RegExp(`^(${AUTOENCODERS.join('|')})/config\\.json$`),
  /^(scheduler\/)?scheduler_config\.json$/,
  /^point_scaler\.json$/,
];
const MODEL_FOLDERS = ['', 'unet', 'unet_ema', ...AUTOENCODERS];
/** Lists the files of a complete download; it is written last. */
const completeFile = ({ variant, dtype }: HubOptions) =>
  `.complete${variant ? `.${variant}` : ''}${dtype === 'fp16' ? '-onnx-fp16' : ''}.json`;

/**
 * Downloads the files of a pipeline from the Hugging Face Hub into the cache and returns their folder: configurations,
 * ONNX files and the weights, all shards of them. A cached revision is not downloaded again. Without a network
 * the cached one is used.
 *
 * @param name `owner/name`.
 * @throws {HubError} when the Hub refuses or cannot be reached and nothing is cached, when a download breaks off or is
 * damaged, or when the repository has no safetensors.
 * @throws {InvalidArgumentError} when name, revision, variant or token is malformed.
 */
export async function downloadSnapshot(name: string, options: HubOptions = {}): Promise<string> {
  const { variant } = options;
  // Refuses a malformed variant before the Hub is asked.
  weightsFile(variant);
  const repository = new Repository('model', name, options);
  const { revision } = repository;
  const complete = completeFile(options);
  return repository.throughCache({
    what: `${name} at ${revision}${variant ? ` (${variant})` : ''}`,
    ref: repository.ref,
    find: async (commit) => {
      const folder = repository.snapshot(commit);
      return (await isFile(path.join(folder, complete))) ? folder : undefined;
    },
    get: async (commit) => {
      const files = neededFiles(name, await repository.files(commit), options);
      for (const file of files) await repository.download(commit, file);
      const list = JSON.stringify(files.map((file) => file.path));
      await writeFileAtomic(path.join(repository.snapshot(commit), complete), list);
      return repository.snapshot(commit);
    },
  });
}

/**
 * Downloads one file of a repository of the Hugging Face Hub into the cache and returns its path. A cached file is not
 * downloaded again. Without a network the last one downloaded is used.
 *
 * @param name `owner/name`.
 * @param file its path in the repository, with '/' between folders.
 * @throws {HubError} when the Hub refuses or cannot be reached and nothing is cached, when there is no such file, or
 * when the download breaks off or is damaged.
 * @throws {InvalidArgumentError} when name, path, revision or token is malformed.
 * @example
 * const path = await downloadFile('owner/name', 'onnx/model.onnx');
 */
export async function downloadFile(name: string, file: string, options: HubOptions = {}): Promise<string> {
  const repository = new Repository('model', name, options);
  if (!isFilePath(file)) throw new InvalidArgumentError(`'${file}' is not the path of a file in a repository`);
  const { revision, cache } = repository;
  const parts = file.split('/');
  return repository.throughCache({
    what: `${file} of ${name} at ${revision}`,
    // Separate from the refs of whole pipelines, which promise that all files are cached.
    ref: path.join(cache, 'file-refs', encodeURIComponent(revision), ...parts),
    find: async (commit) => {
      const target = path.join(repository.snapshot(commit), ...parts);
      return (await isFile(target)) ? target : undefined;
    },
    get: async (commit) => {
      const listed = (await repository.files(commit)).find((entry) => entry.path === file);
      if (!listed) throw new HubError(`${name} has no file ${file} at ${commit}: check the spelling`);
      return repository.download(commit, listed);
    },
  });
}

/** @throws {HubError} when there are no weights of this variant, or only pickles; it says which there are. */
function neededFiles(name: string, files: readonly ListedFile[], { variant, dtype }: HubOptions): ListedFile[] {
  const besides: string[] = [];
  const [ownOnnx, sharedOnnx] = onnxFiles(dtype);
  const needed = files.filter(({ path: file }) => {
    const slash = file.lastIndexOf('/');
    const base = file.slice(slash + 1);
    const inModelFolder = MODEL_FOLDERS.includes(file.slice(0, Math.max(slash, 0)));
    if (inModelFolder) besides.push(base);
    if (inModelFolder && (isWeightsFile(base, variant) || base === ownOnnx)) return true;
    return file === sharedOnnx || NEEDED.some((pattern) => pattern.test(file));
  });
  if (needed.some((file) => file.path.endsWith('.safetensors'))) return needed;
  throw new HubError(`${name} cannot be loaded: ${adviceOnMissingWeights(besides, variant, name)}`);
}
