import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { errorText, HubError, InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { isFile } from '../files/regular-file.ts';
import { downloadHubFile, type HubFile } from './hub-download.ts';
import { adviceOnMissingWeights, isWeightsFile, weightsFile } from './weight-files.ts';

/** As transformers.js reports downloads. */
export interface DownloadProgress {
  readonly status: 'initiate' | 'progress' | 'done';
  /** The repository. */
  readonly name: string;
  readonly file: string;
  /** Percent, with `progress`. */
  readonly progress?: number | undefined;
  readonly loaded?: number | undefined;
  readonly total?: number | undefined;
}

export interface HubOptions {
  /** A branch, tag or commit; default 'main'. */
  readonly revision?: string | undefined;
  /** Which weights, e.g. 'fp16' for `diffusion_pytorch_model.fp16.safetensors`; default those without a mark. */
  readonly variant?: string | undefined;
  /** Default `$XDG_CACHE_HOME/iso-diffusion/hub` or `~/.cache/iso-diffusion/hub`. */
  readonly cache_dir?: string | null | undefined;
  /** Takes what was downloaded before and asks nobody. */
  readonly local_files_only?: boolean | undefined;
  readonly progress_callback?: ((progress: DownloadProgress) => void) | undefined;
  /** Default: the environment's HF_TOKEN. */
  readonly token?: string | undefined;
  /** Default: the environment's HF_ENDPOINT, or https://huggingface.co. */
  readonly endpoint?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly fetch?: typeof fetch | undefined;
}

const NAME = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;
const COMMIT = /^[0-9a-f]{40}$/;
const REVISION = /^[A-Za-z0-9][\w.-]*(\/[\w.-]+)*$/;
/** What a pipeline may need besides weights; demo images and training logs are left out. */
const NEEDED = [
  /^model_index\.json$/,
  /^((unet|unet_ema)\/)?(config\.json|model\.onnx)$/,
  /^(scheduler\/)?scheduler_config\.json$/,
  /^point_scaler\.json$/,
];
const MODEL_FOLDERS = ['', 'unet', 'unet_ema'];
/** A listing with more files is given up. */
export const MAX_FILES = 10_000;
/** Lists what was downloaded, once all of it was. */
const completeFile = (variant: string | undefined) => `.complete${variant ? `.${variant}` : ''}.json`;

/**
 * Downloads the files of a pipeline from the Hugging Face Hub into the cache and returns their folder: configurations,
 * ONNX files and the weights, all shards of them. A revision that is there already is not downloaded again; without a
 * network a cached one is taken.
 *
 * @param name `owner/name`.
 * @throws {HubError} when the Hub refuses or cannot be reached and nothing is cached, when a download breaks off or is
 * damaged, or when the repository has no safetensors.
 * @throws {InvalidArgumentError} when name, revision, variant or token is malformed.
 */
export async function downloadSnapshot(name: string, options: HubOptions = {}): Promise<string> {
  const { revision = 'main', local_files_only = false, variant } = options;
  weightsFile(variant);
  checkHubId(name, revision);
  const root = path.join(options.cache_dir ?? defaultCache(), `models--${name.replace('/', '--')}`);
  const ref = path.join(root, 'refs', ...revision.split('/'));
  if (local_files_only) return cachedSnapshot(root, ref, name, options);
  if (COMMIT.test(revision)) {
    // A commit never changes.
    const cached = await cachedSnapshot(root, ref, name, options).catch(() => undefined);
    if (cached) return cached;
  }
  let commit: string;
  try {
    commit = await commitOf(name, revision, options);
  } catch (error) {
    const cached = await cachedSnapshot(root, ref, name, options).catch(() => undefined);
    if (cached && error instanceof HubError && error.unreachable) return cached;
    throw error;
  }
  const folder = path.join(root, 'snapshots', commit);
  if (!(await isFile(path.join(folder, completeFile(variant)))))
    await downloadAll(name, commit, folder, options);
  await writeFileAtomic(ref, commit);
  return folder;
}

/** @throws {InvalidArgumentError} for what is no `owner/name` or no revision. */
export function checkHubId(name: string, revision: string): void {
  if (NAME.test(name) && REVISION.test(revision) && !revision.includes('..')) return;
  throw new InvalidArgumentError(
    `'${name}' at revision '${revision}' is no Hub id of the form owner/name and revision`,
  );
}

async function downloadAll(name: string, commit: string, folder: string, options: HubOptions): Promise<void> {
  const { progress_callback, signal, variant } = options;
  const files = await neededFiles(name, commit, options);
  for (const file of files) {
    const target = path.join(folder, ...file.path.split('/'));
    const report = (status: DownloadProgress['status'], loaded?: number) =>
      progress_callback?.({
        status,
        name,
        file: file.path,
        ...(loaded === undefined
          ? {}
          : { loaded, total: file.size, progress: (100 * loaded) / Math.max(file.size, 1) }),
      });
    report('initiate');
    if (!(await isFile(target)))
      await downloadHubFile(file, target, {
        url: `${endpointOf(options)}/${name}/resolve/${commit}/${file.path.split('/').map(encodeURIComponent).join('/')}`,
        token: tokenOf(options),
        fetch: options.fetch ?? fetch,
        onProgress: (loaded) => report('progress', loaded),
        signal,
      });
    report('done');
  }
  await writeFileAtomic(
    path.join(folder, completeFile(variant)),
    JSON.stringify(files.map((file) => file.path)),
  );
}

/** @throws {HubError} when there are no weights, of this variant or but as pickles; it says what there is. */
async function neededFiles(name: string, commit: string, options: HubOptions): Promise<HubFile[]> {
  const { variant } = options;
  const files: HubFile[] = [];
  const besides: string[] = [];
  let seen = 0;
  const listing = listFiles({ repo: name, revision: commit, recursive: true, ...access(options) });
  await named(name, async () => {
    for await (const { type, path: file, size, oid, lfs } of listing) {
      if (++seen > MAX_FILES) throw new HubError(`${name} lists more than ${MAX_FILES} files`);
      const slash = file.lastIndexOf('/');
      const inModelFolder = MODEL_FOLDERS.includes(file.slice(0, Math.max(slash, 0)));
      const base = file.slice(slash + 1);
      if (type !== 'file') continue;
      if (inModelFolder) besides.push(base);
      if (!(inModelFolder && isWeightsFile(base, variant)) && !NEEDED.some((pattern) => pattern.test(file)))
        continue;
      const digest = lfs
        ? ({ kind: 'sha256', hex: lfs.oid } as const)
        : ({ kind: 'git-sha1', hex: oid ?? '' } as const);
      files.push({ path: file, size: lfs?.size ?? size, digest });
    }
  });
  if (files.some((file) => file.path.endsWith('.safetensors'))) return files;
  throw new HubError(`${name} cannot be loaded: ${adviceOnMissingWeights(besides, variant, name)}`);
}

export async function commitOf(name: string, revision: string, options: HubOptions): Promise<string> {
  const info = await named(name, () =>
    modelInfo({ name, revision, additionalFields: ['sha'], ...access(options) }),
  );
  if (typeof info.sha === 'string' && COMMIT.test(info.sha)) return info.sha;
  throw new HubError(`the Hub gives no commit for ${name} at ${revision}`);
}

/** Turns the errors of `@huggingface/hub` and of fetch into ours. */
export async function named<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof HubError || cause instanceof InvalidArgumentError) throw cause;
    if (cause instanceof HubApiError) {
      const reason =
        cause.statusCode === 401 || cause.statusCode === 404
          ? 'there is no such repository or revision, or it is private: check the name, and set HF_TOKEN'
          : cause.message;
      throw new HubError(`${name}: status ${cause.statusCode}: ${reason}`, { cause });
    }
    throw new HubError(
      `the Hub cannot be reached for ${name} (${errorText(cause)}): check the network, or pass a local folder`,
      { cause, unreachable: true },
    );
  }
}

async function cachedSnapshot(
  root: string,
  ref: string,
  name: string,
  { revision = 'main', variant }: HubOptions,
): Promise<string> {
  const commit = COMMIT.test(revision) ? revision : (await readFile(ref, 'utf8').catch(() => '')).trim();
  const folder = path.join(root, 'snapshots', commit);
  if (COMMIT.test(commit) && (await isFile(path.join(folder, completeFile(variant))))) return folder;
  throw new HubError(
    `${name} at ${revision}${variant ? ` (${variant})` : ''} is not in the cache ${root}: leave out local_files_only once, with a network`,
  );
}

/** Options of `@huggingface/hub`. */
export function access(options: Pick<HubOptions, 'token' | 'endpoint' | 'fetch'>) {
  const token = tokenOf(options);
  return {
    hubUrl: endpointOf(options),
    ...(options.fetch ? { fetch: options.fetch } : {}),
    ...(token ? { accessToken: token } : {}),
  };
}

export function tokenOf(options: Pick<HubOptions, 'token'>): string | undefined {
  const token = options.token ?? (process.env.HF_TOKEN || process.env.HUGGING_FACE_HUB_TOKEN || undefined);
  if (token === undefined || token.startsWith('hf_')) return token;
  throw new InvalidArgumentError(
    "the Hub's token must start with 'hf_': check the option token and HF_TOKEN",
  );
}

export function endpointOf({ endpoint }: Pick<HubOptions, 'endpoint'>): string {
  return (endpoint ?? process.env.HF_ENDPOINT ?? 'https://huggingface.co').replace(/\/+$/, '');
}

export function defaultCache(): string {
  return path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'iso-diffusion', 'hub');
}
