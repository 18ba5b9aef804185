import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { errorText, HubError, InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { defaultCacheDir, download, type RemoteFile } from '../files/download.ts';
import { isFile } from '../files/regular-file.ts';
import { accessToken, envCacheDir, HUGGING_FACE, hubEndpoint, offlineReason } from './environment.ts';
import { adviceOnMissingWeights, isWeightsFile, weightsFile } from './pipeline-folder.ts';

/*
 * Repositories of the Hugging Face Hub, downloaded into a cache: whole pipelines, or one file. The cache holds the files
 * in `models--<owner>--<name>/snapshots/<commit>/`, and the last known commit of each revision in `refs/`.
 */

/** Progress of a download, as transformers.js reports it: per file 'initiate', 'progress' many times, and 'done'. */
export interface DownloadProgress {
  /** 'initiate' before the file, 'progress' while it arrives, 'done' once it is complete. */
  readonly status: 'initiate' | 'progress' | 'done';
  /** The repository, `owner/name`. */
  readonly name: string;
  /** The file's path in the repository. */
  readonly file: string;
  /** Percent, 0 to 100, with 'progress'. */
  readonly progress?: number | undefined;
  /** Bytes that have arrived, with 'progress'. */
  readonly loaded?: number | undefined;
  /** Bytes of the whole file, with 'progress'. */
  readonly total?: number | undefined;
}

/** Where and how a repository is downloaded. */
export interface HubOptions {
  /** A branch, tag or commit; default 'main'. */
  readonly revision?: string | undefined;
  /** The variant of the weights, e.g. 'fp16' for `diffusion_pytorch_model.fp16.safetensors`; default none. */
  readonly variant?: string | undefined;
  /**
   * The folder of the cache; default `env.cacheDir` where that was set, or `$XDG_CACHE_HOME/iso-diffusion/hub`, or
   * `~/.cache/iso-diffusion/hub`.
   */
  readonly cache_dir?: string | null | undefined;
  /**
   * Whether to use what was downloaded before, without asking the Hub; default false. `HF_HUB_OFFLINE`,
   * `TRANSFORMERS_OFFLINE` and `env.allowRemoteModels = false` have the same effect.
   */
  readonly local_files_only?: boolean | undefined;
  /** Called before each file, repeatedly while it arrives, and once it is complete; default: nothing is called. */
  readonly progress_callback?: ((progress: DownloadProgress) => void) | undefined;
  /** An access token of any form; default the environment's HF_TOKEN, or none. It is sent to `endpoint` only. */
  readonly token?: string | undefined;
  /**
   * Address of the Hub; default `env.remoteHost` where that was set, or the environment's HF_ENDPOINT, or
   * https://huggingface.co.
   */
  readonly endpoint?: string | undefined;
  /** Stops the download; default: it cannot be stopped. */
  readonly signal?: AbortSignal | undefined;
  /** The function that requests go through; default the global `fetch`. */
  readonly fetch?: typeof fetch | undefined;
}

/** `owner/name`. */
export const HUB_ID = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;
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
/** A longer listing is refused. */
const MAX_FILES = 10_000;
/** Lists the files of a complete download; it is written last. */
const completeFile = (variant: string | undefined) => `.complete${variant ? `.${variant}` : ''}.json`;

type ListedFile = Omit<RemoteFile, 'url'> & { readonly path: string; readonly size: number };

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
  const { revision = 'main', variant } = options;
  // Refuses a malformed variant before the Hub is asked.
  weightsFile(variant);
  checkHubId(name, revision);
  const root = repositoryCache(name, options);
  const folderOf = (commit: string) => path.join(root, 'snapshots', commit);
  const complete = completeFile(variant);
  return throughCache(name, options, {
    what: `${name} at ${revision}${variant ? ` (${variant})` : ''}`,
    ref: path.join(root, 'refs', ...revision.split('/')),
    find: async (commit) => ((await isFile(path.join(folderOf(commit), complete))) ? folderOf(commit) : undefined),
    get: async (commit) => {
      const files = await neededFiles(name, commit, options);
      for (const file of files) await downloadListed(name, commit, file, options);
      const list = JSON.stringify(files.map((file) => file.path));
      await writeFileAtomic(path.join(folderOf(commit), complete), list);
      return folderOf(commit);
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
  const { revision = 'main' } = options;
  checkHubId(name, revision);
  const parts = file.split('/');
  if (file.includes('\\') || parts.some((part) => part === '' || part === '.' || part === '..'))
    throw new InvalidArgumentError(`'${file}' is not the path of a file in a repository`);
  const root = repositoryCache(name, options);
  const pathAt = (commit: string) => path.join(root, 'snapshots', commit, ...parts);
  return throughCache(name, options, {
    what: `${file} of ${name} at ${revision}`,
    // Separate from the refs of whole pipelines, which promise that all files are cached.
    ref: path.join(root, 'file-refs', encodeURIComponent(revision), ...parts),
    find: async (commit) => ((await isFile(pathAt(commit))) ? pathAt(commit) : undefined),
    get: async (commit) => {
      const listed = (await listedFiles(name, commit, options)).find((entry) => entry.path === file);
      if (!listed) throw new HubError(`${name} has no file ${file} at ${commit}: check the spelling`);
      return downloadListed(name, commit, listed, options);
    },
  });
}

interface CachedThing {
  /** For errors. */
  readonly what: string;
  /** The file that remembers the last known commit of the revision. */
  readonly ref: string;
  /** The path of the thing in the cache, undefined if it is not cached. */
  find(commit: string): Promise<string | undefined>;
  /** Downloads it and returns its path. */
  get(commit: string): Promise<string>;
}

/** Asks the Hub for the commit of a revision, and downloads it unless it is cached: a commit never changes. */
async function throughCache(name: string, options: HubOptions, { what, ref, find, get }: CachedThing): Promise<string> {
  const { revision = 'main' } = options;
  const offline = offlineReason() ?? (options.local_files_only ? 'local_files_only is true' : undefined);
  const cached = async () => {
    const commit = COMMIT.test(revision) ? revision : (await readFile(ref, 'utf8').catch(() => '')).trim();
    return COMMIT.test(commit) ? find(commit) : undefined;
  };
  if (offline || COMMIT.test(revision)) {
    const found = await cached();
    if (found) return found;
    if (offline)
      throw new HubError(
        `${what} is not in the cache ${repositoryCache(name, options)}, and the Hub is not asked because ${offline}: change that once, with a network`,
      );
  }
  let commit: string;
  try {
    commit = await commitOf(name, revision, options);
  } catch (error) {
    const found = await cached();
    if (found && error instanceof HubError && error.unreachable) return found;
    throw error;
  }
  const result = (await find(commit)) ?? (await get(commit));
  await writeFileAtomic(ref, commit);
  return result;
}

/** Downloads a listed file unless it is cached, reports progress, and returns its path. */
async function downloadListed(name: string, commit: string, file: ListedFile, options: HubOptions): Promise<string> {
  const { progress_callback, fetch, signal } = options;
  const target = path.join(repositoryCache(name, options), 'snapshots', commit, ...file.path.split('/'));
  const report = (progress: Omit<DownloadProgress, 'name' | 'file'>) =>
    progress_callback?.({ name, file: file.path, ...progress });
  report({ status: 'initiate' });
  const inUrl = file.path.split('/').map(encodeURIComponent).join('/');
  const url = `${hubEndpoint(options.endpoint)}/${name}/resolve/${commit}/${inUrl}`;
  if (!(await isFile(target)))
    await download({ ...file, url }, target, {
      token: accessToken(options.token),
      fetch,
      signal,
      fail: (message, cause) => new HubError(message, cause),
      advice: (status) => adviceOnStatus(status, options),
      onProgress: (loaded) =>
        report({ status: 'progress', loaded, total: file.size, progress: (100 * loaded) / Math.max(file.size, 1) }),
    });
  report({ status: 'done' });
  return target;
}

/** @throws {HubError} when there are no weights of this variant, or only pickles; it says which there are. */
async function neededFiles(name: string, commit: string, options: HubOptions): Promise<ListedFile[]> {
  const { variant } = options;
  const besides: string[] = [];
  const needed = (await listedFiles(name, commit, options)).filter(({ path: file }) => {
    const slash = file.lastIndexOf('/');
    const base = file.slice(slash + 1);
    const inModelFolder = MODEL_FOLDERS.includes(file.slice(0, Math.max(slash, 0)));
    if (inModelFolder) besides.push(base);
    return (inModelFolder && isWeightsFile(base, variant)) || NEEDED.some((pattern) => pattern.test(file));
  });
  if (needed.some((file) => file.path.endsWith('.safetensors'))) return needed;
  throw new HubError(`${name} cannot be loaded: ${adviceOnMissingWeights(besides, variant, name)}`);
}

async function listedFiles(name: string, commit: string, options: HubOptions): Promise<ListedFile[]> {
  const listing = listFiles({ repo: name, revision: commit, recursive: true, ...hubAccess(options) });
  return hubRequest(name, options, async () => {
    const files: ListedFile[] = [];
    let seen = 0;
    for await (const { type, path: file, size, oid, lfs } of listing) {
      if (++seen > MAX_FILES) throw new HubError(`${name} lists more than ${MAX_FILES} files`);
      if (type !== 'file') continue;
      const digest = lfs
        ? ({ kind: 'sha256', hex: lfs.oid } as const)
        : ({ kind: 'git-sha1', hex: oid ?? '' } as const);
      files.push({ path: file, size: lfs?.size ?? size, digest });
    }
    return files;
  });
}

async function commitOf(name: string, revision: string, options: HubOptions): Promise<string> {
  const info = await hubRequest(name, options, () =>
    modelInfo({ name, revision, additionalFields: ['sha'], ...hubAccess(options) }),
  );
  if (typeof info.sha === 'string' && COMMIT.test(info.sha)) return info.sha;
  throw new HubError(`the Hub gives no commit for ${name} at ${revision}`);
}

/** Turns the errors of `@huggingface/hub` and of fetch into ours. */
async function hubRequest<T>(name: string, options: HubOptions, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof HubError || cause instanceof InvalidArgumentError) throw cause;
    if (cause instanceof HubApiError) {
      const { statusCode } = cause;
      const reason = (statusCode !== 403 && adviceOnStatus(statusCode, options)) || cause.message;
      throw new HubError(`${name}: status ${statusCode}: ${reason}${tokenHint(options)}`, { cause });
    }
    throw new HubError(
      `the Hub cannot be reached for ${name} (${errorText(cause)}): check the network, or pass a local folder${tokenHint(options)}`,
      { cause, unreachable: true },
    );
  }
}

/** A token of a mirror that goes to huggingface.co is most likely missing the mirror's address. */
function tokenHint({ token, endpoint }: HubOptions): string {
  const foreign = accessToken(token)?.startsWith('hf_') === false && hubEndpoint(endpoint) === HUGGING_FACE;
  return foreign
    ? `. The token in ${token === undefined ? 'HF_TOKEN' : 'the option token'} does not begin with 'hf_', as those of ${HUGGING_FACE} do: for another Hub set HF_ENDPOINT to its address`
    : '';
}

function adviceOnStatus(status: number, options: HubOptions): string | undefined {
  const unknown = 'there is no such repository, revision or file, or it is private: check the name';
  const missing = accessToken(options.token)
    ? `${unknown}, and whether the token, in HF_TOKEN or the option token, is one of ${hubEndpoint(options.endpoint)}`
    : `${unknown}, and set HF_TOKEN for private ones`;
  const advice: Record<number, string> = {
    401: missing,
    403: 'the token does not give access: accept the terms on the page of the model, or use another token',
    404: missing,
    429: 'too many requests: wait a while, or set HF_TOKEN',
  };
  return advice[status];
}

/** @throws {InvalidArgumentError} unless it is an `owner/name` and a revision. */
function checkHubId(name: string, revision: string): void {
  if (HUB_ID.test(name) && REVISION.test(revision) && !revision.includes('..')) return;
  throw new InvalidArgumentError(
    `'${name}' at revision '${revision}' is not a Hub id of the form owner/name and revision`,
  );
}

function repositoryCache(name: string, { cache_dir }: Pick<HubOptions, 'cache_dir'>): string {
  return path.join(
    cache_dir ?? envCacheDir() ?? path.join(defaultCacheDir(), 'hub'),
    `models--${name.replace('/', '--')}`,
  );
}

/**
 * Options of `@huggingface/hub`, which itself takes tokens that begin with `hf_` only: the token of a mirror goes into the
 * headers of what is sent to the endpoint.
 */
export function hubAccess(options: Pick<HubOptions, 'token' | 'endpoint' | 'fetch'>) {
  const token = accessToken(options.token);
  const hubUrl = hubEndpoint(options.endpoint);
  const send = options.fetch ?? fetch;
  const withToken: typeof fetch = (input, init) => {
    const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined));
    if (isAt(hubUrl, input instanceof Request ? input.url : `${input}`))
      headers.set('authorization', `Bearer ${token}`);
    return send(input, { ...init, headers });
  };
  return { hubUrl, fetch: token ? withToken : send };
}

function isAt(endpoint: string, url: string): boolean {
  return URL.canParse(endpoint) && new URL(url).origin === new URL(endpoint).origin;
}
