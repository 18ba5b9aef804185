import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { errorText, HubError, InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { defaultCacheDir, download, type RemoteFile } from '../files/download.ts';
import { isFile } from '../files/regular-file.ts';
import { accessToken, envCacheDir, HUGGING_FACE, hubEndpoint, offlineReason } from './environment.ts';
import { type DownloadProgress, HUB_ID, type HubOptions } from './hub-options.ts';

export { type DownloadProgress, HUB_ID, type HubOptions } from './hub-options.ts';

/*
 * A repository of the Hugging Face Hub, of a model or a data set. Its cache holds the files in
 * `models--<owner>--<name>/snapshots/<commit>/` or `datasets--...`, and the last known commit of each revision in `refs/`.
 */

const COMMIT = /^[0-9a-f]{40}$/;
const REVISION = /^[A-Za-z0-9][\w.-]*(\/[\w.-]+)*$/;
/** A longer listing is refused. A data set may have a file for each image. */
const MAX_FILES = { model: 10_000, dataset: 200_000 } as const;

/** A file of a repository, as the Hub lists it. */
export type ListedFile = Omit<RemoteFile, 'url'> & { readonly path: string; readonly size: number };

/** Whether a text is a path below a repository, with '/'. A listing is not trusted. */
export function isFilePath(file: string): boolean {
  return !/[\\\0]/.test(file) && !file.split('/').some((part) => part === '' || part === '.' || part === '..');
}

interface CachedThing<T> {
  /** For errors. */
  readonly what: string;
  /** The file that remembers the last known commit of the revision. */
  readonly ref: string;
  /** The thing in the cache, undefined if it is not cached. */
  find(commit: string): Promise<T | undefined>;
  /** Downloads it. */
  get(commit: string): Promise<T>;
}

/** A repository at a revision. */
export class Repository {
  readonly revision: string;
  /** The folder of its cache. */
  readonly cache: string;

  /** @throws {InvalidArgumentError} unless name and revision are an `owner/name` and a revision. */
  constructor(
    readonly type: 'model' | 'dataset',
    readonly name: string,
    private readonly options: HubOptions,
  ) {
    this.revision = options.revision ?? 'main';
    if (!HUB_ID.test(name) || !REVISION.test(this.revision) || this.revision.includes('..'))
      throw new InvalidArgumentError(
        `'${name}' at revision '${this.revision}' is not a Hub id of the form owner/name and revision`,
      );
    this.cache = path.join(
      options.cache_dir ?? envCacheDir() ?? path.join(defaultCacheDir(), 'hub'),
      `${type}s--${name.replace('/', '--')}`,
    );
  }

  /** The file that remembers the last commit of the revision of which all needed files were cached. */
  get ref(): string {
    return path.join(this.cache, 'refs', ...this.revision.split('/'));
  }

  /** The folder of the files of a commit in the cache. */
  snapshot(commit: string): string {
    return path.join(this.cache, 'snapshots', commit);
  }

  /** Asks the Hub for the commit of the revision, and downloads it unless it is cached: a commit never changes. */
  async throughCache<T>({ what, ref, find, get }: CachedThing<T>): Promise<T> {
    const { revision, offline } = this;
    const cached = async () => {
      const commit = COMMIT.test(revision) ? revision : (await readFile(ref, 'utf8').catch(() => '')).trim();
      return COMMIT.test(commit) ? find(commit) : undefined;
    };
    if (offline || COMMIT.test(revision)) {
      const found = await cached();
      if (found !== undefined) return found;
      if (offline) throw this.notCached(what, offline);
    }
    let commit: string;
    try {
      commit = await this.commit();
    } catch (error) {
      const found = await cached();
      if (found !== undefined && error instanceof HubError && error.unreachable) return found;
      throw error;
    }
    const result = (await find(commit)) ?? (await get(commit));
    await writeFileAtomic(ref, commit);
    return result;
  }

  /**
   * Downloads a listed file unless it is cached, reports progress, and returns its path.
   *
   * @throws {HubError} when its path leads out of the cache, the Hub may not be asked, or the download fails.
   */
  async download(commit: string, file: ListedFile): Promise<string> {
    const { name, options } = this;
    const { progress_callback, fetch, signal } = options;
    if (!isFilePath(file.path)) throw new HubError(`${name} lists a file '${file.path}', which is not a path`);
    const target = path.join(this.snapshot(commit), ...file.path.split('/'));
    const report = (progress: Omit<DownloadProgress, 'name' | 'file'>) =>
      progress_callback?.({ name, file: file.path, ...progress });
    report({ status: 'initiate' });
    if (!(await isFile(target))) {
      if (this.offline) throw this.notCached(`${file.path} of ${name}`, this.offline);
      await download({ ...file, url: this.fileUrl(commit, file.path) }, target, {
        token: accessToken(options.token),
        fetch,
        signal,
        fail: (message, cause) => new HubError(message, cause),
        advice: (status) => this.adviceOnStatus(status),
        onProgress: (loaded) =>
          report({ status: 'progress', loaded, total: file.size, progress: (100 * loaded) / Math.max(file.size, 1) }),
      });
    }
    report({ status: 'done' });
    return target;
  }

  /** What forbids to ask the Hub; undefined where nothing does. */
  private get offline(): string | undefined {
    return offlineReason() ?? (this.options.local_files_only ? 'local_files_only is true' : undefined);
  }

  private notCached(what: string, offline: string): HubError {
    return new HubError(
      `${what} is not in the cache ${this.cache}, and the Hub is not asked because ${offline}: change that once, with a network`,
    );
  }

  private fileUrl(commit: string, file: string): string {
    const inUrl = file.split('/').map(encodeURIComponent).join('/');
    const folder = this.type === 'dataset' ? 'datasets/' : '';
    return `${hubEndpoint(this.options.endpoint)}/${folder}${this.name}/resolve/${commit}/${inUrl}`;
  }

  /** All files of a commit. @throws {HubError} when there are too many. */
  async files(commit: string): Promise<ListedFile[]> {
    const { type, name } = this;
    const { listFiles } = await import('@huggingface/hub');
    const listing = listFiles({
      repo: { type, name },
      revision: commit,
      recursive: true,
      ...hubAccess(this.options),
    });
    return this.request(async () => {
      const files: ListedFile[] = [];
      let seen = 0;
      for await (const { type: kind, path: file, size, oid, lfs } of listing) {
        if (++seen > MAX_FILES[type]) throw new HubError(`${name} lists more than ${MAX_FILES[type]} files`);
        if (kind !== 'file') continue;
        const digest = lfs
          ? ({ kind: 'sha256', hex: lfs.oid } as const)
          : ({ kind: 'git-sha1', hex: oid ?? '' } as const);
        files.push({ path: file, size: lfs?.size ?? size, digest });
      }
      return files;
    });
  }

  private async commit(): Promise<string> {
    const { type, name, revision } = this;
    const { datasetInfo, modelInfo } = await import('@huggingface/hub');
    const asked = { name, revision, ...hubAccess(this.options) };
    const info = await this.request(() =>
      type === 'dataset'
        ? datasetInfo({ ...asked, additionalFields: ['sha'] })
        : modelInfo({ ...asked, additionalFields: ['sha'] }),
    );
    if (typeof info.sha === 'string' && COMMIT.test(info.sha)) return info.sha;
    throw new HubError(`the Hub gives no commit for ${name} at ${revision}`);
  }

  /** Turns the errors of `@huggingface/hub` and of fetch into ours. */
  private async request<T>(work: () => Promise<T>): Promise<T> {
    const { name, options } = this;
    try {
      return await work();
    } catch (cause) {
      if (cause instanceof HubError || cause instanceof InvalidArgumentError) throw cause;
      const { HubApiError } = await import('@huggingface/hub');
      if (cause instanceof HubApiError) {
        const { statusCode: status } = cause;
        const reason = (status !== 403 && this.adviceOnStatus(status)) || cause.message;
        throw new HubError(`${name}: status ${status}: ${reason}${tokenHint(options)}`, { cause, status });
      }
      throw new HubError(
        `the Hub cannot be reached for ${name} (${errorText(cause)}): check the network, or pass a local folder${tokenHint(options)}`,
        { cause, unreachable: true },
      );
    }
  }

  private adviceOnStatus(status: number): string | undefined {
    const { token, endpoint } = this.options;
    const unknown = 'there is no such repository, revision or file, or it is private: check the name';
    const missing = accessToken(token)
      ? `${unknown}, and whether the token, in HF_TOKEN or the option token, is one of ${hubEndpoint(endpoint)}`
      : `${unknown}, and set HF_TOKEN for private ones`;
    const page = this.type === 'dataset' ? 'data set' : 'model';
    const advice: Record<number, string> = {
      401: missing,
      403: `the token does not give access: accept the terms on the page of the ${page}, or use another token`,
      404: missing,
      429: 'too many requests: wait a while, or set HF_TOKEN',
    };
    return advice[status];
  }
}

/** A token of a mirror that goes to huggingface.co is most likely missing the mirror's address. */
function tokenHint({ token, endpoint }: HubOptions): string {
  const foreign = accessToken(token)?.startsWith('hf_') === false && hubEndpoint(endpoint) === HUGGING_FACE;
  return foreign
    ? `. The token in ${token === undefined ? 'HF_TOKEN' : 'the option token'} does not begin with 'hf_', as those of ${HUGGING_FACE} do: for another Hub set HF_ENDPOINT to its address`
    : '';
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
