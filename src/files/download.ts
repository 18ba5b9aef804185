import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { errorText, IsoDiffusionError, isError } from '../errors.ts';
import { fileDigest } from './regular-file.ts';

/*
 * The one downloader, for files of the Hugging Face Hub, packages of npm and archives of data sets. What has arrived is kept in
 * `<target>.incomplete`. A Range request continues it, in the same call after a cut connection or in a later one.
 */

/** A file on a server. */
export interface RemoteFile {
  readonly url: string;
  /** In bytes, where it is known before the download. */
  readonly size?: number | undefined;
  /** `git-sha1` is git's name of a blob: the SHA-1 of `blob <size>\0` and the content. It needs `size`. */
  readonly digest: { readonly kind: 'sha512' | 'sha256' | 'md5' | 'git-sha1'; readonly hex: string };
}

export interface DownloadOptions {
  /** Makes the error of a failed download from a message. */
  readonly fail: (message: string, options?: ErrorOptions) => IsoDiffusionError;
  /** What the user can do about a status; undefined where there is nothing to say. */
  readonly advice?: (status: number) => string | undefined;
  readonly token?: string | undefined;
  readonly fetch?: typeof fetch | undefined;
  /** Called with the number of bytes that have arrived. */
  readonly onProgress?: (loaded: number) => void;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds without a byte after which a connection counts as cut; default 60,000. */
  readonly stallMs?: number;
}

/** Connections per call. The pause after a cut one doubles each time. */
const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 100;
const STALL_MS = 60_000;
/** A file of unknown size may have at most this many bytes. */
const MAX_BYTES = 4 * 1024 ** 3;

/**
 * The folder that downloads and everything derived from them is kept in, unless an option names another:
 * `$XDG_CACHE_HOME/iso-diffusion` or `~/.cache/iso-diffusion`.
 */
export function defaultCacheDir(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'iso-diffusion');
}

/**
 * Downloads a file to `target`, which appears only when size and digest are right. If-Range carries the ETag of the
 * first answer: a server whose file has changed meanwhile sends all of it.
 *
 * @throws the error of `fail` when the server refuses, the connection breaks again and again, or the content is wrong.
 * @throws `signal.reason` when it was stopped.
 */
export async function download(file: RemoteFile, target: string, options: DownloadOptions): Promise<void> {
  const { fail, signal } = options;
  const { url, size, digest } = file;
  await mkdir(dirname(target), { recursive: true });
  const partial = `${target}.incomplete`;
  for (let attempt = 1; ; attempt++) {
    const cut = await fetchRest(file, partial, options);
    if (!cut) break;
    if (attempt === ATTEMPTS)
      throw fail(
        `${url}: the connection broke ${ATTEMPTS} times (${reasonOf(cut)}). Run it again to continue the download`,
        { cause: cut },
      );
    await wait(FIRST_PAUSE_MS * 2 ** (attempt - 1), undefined, { signal });
  }
  await rm(etagFile(partial), { force: true });
  const found =
    digest.kind === 'git-sha1'
      ? await fileDigest([partial], { algorithm: 'sha1', prefix: `blob ${size}\0` })
      : await fileDigest([partial], { algorithm: digest.kind });
  if (found !== digest.hex) {
    await rm(partial, { force: true });
    throw fail(`${url}: the content has the ${digest.kind} ${found}, but ${digest.hex} is published`);
  }
  await rename(partial, target);
}

/** Appends what is missing to `partial`. Returns why it stopped early, or undefined when the file is whole. */
async function fetchRest(
  { url, size }: RemoteFile,
  partial: string,
  options: DownloadOptions,
): Promise<Error | undefined> {
  const { fail, advice, token, onProgress, signal } = options;
  const most = size ?? MAX_BYTES;
  let have = (await stat(partial).catch(() => undefined))?.size ?? 0;
  if (have > most) have = 0;
  if (have === size && size > 0) return undefined;
  const headers: Record<string, string> = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (have > 0) {
    headers.range = `bytes=${have}-`;
    const etag = await readFile(etagFile(partial), 'utf8').catch(() => '');
    if (isStrong(etag)) headers['if-range'] = etag;
  }
  const { stallMs = STALL_MS } = options;
  const stalled = new AbortController();
  const timer = setTimeout(() => stalled.abort(new Error(`nothing came for ${stallMs / 1000} s`)), stallMs);
  try {
    const response = await (options.fetch ?? fetch)(url, {
      headers,
      signal: signal ? AbortSignal.any([signal, stalled.signal]) : stalled.signal,
    });
    const { status } = response;
    if (status >= 500) return new Error(`the server answered ${status}`);
    const resumed = status === 206;
    if (status === 416 || (resumed && !startsAt(have, response))) {
      await rm(partial, { force: true });
      return new Error(`the server has no bytes from ${have} on`);
    }
    if (!response.ok) throw fail(`${url}: the server answered ${status}: ${advice?.(status) ?? response.statusText}`);
    if (!resumed) await rememberEtag(partial, response.headers.get('etag') ?? '');
    // A server that ignores the range, or has another file by now, sends everything again.
    const handle = await open(partial, resumed ? 'a' : 'w');
    let loaded = resumed ? have : 0;
    try {
      for await (const chunk of response.body ?? []) {
        timer.refresh();
        loaded += chunk.length;
        if (loaded > most) throw fail(`${url} sends more than the expected ${most} bytes`);
        await handle.write(chunk);
        onProgress?.(loaded);
      }
    } finally {
      await handle.close();
    }
    if (size === undefined || loaded === size) return undefined;
    return new Error(`it ended after ${loaded} of ${size} bytes`);
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof IsoDiffusionError) throw cause;
    return isError(cause) ? cause : new Error(String(cause));
  } finally {
    clearTimeout(timer);
  }
}

/** Whether a partial answer begins at byte `have`, as far as it says where it begins. */
function startsAt(have: number, { headers }: Response): boolean {
  const start = /^bytes (\d+)-/.exec(headers.get('content-range') ?? '')?.[1];
  return start === undefined || Number(start) === have;
}

const etagFile = (partial: string) => `${partial}.etag`;

async function rememberEtag(partial: string, etag: string): Promise<void> {
  if (isStrong(etag)) await writeFile(etagFile(partial), etag);
  else await rm(etagFile(partial), { force: true });
}

/** A weak ETag (W/"...") does not promise equal bytes. */
function isStrong(etag: string): boolean {
  return /^"[\x21\x23-\x7e]{1,200}"$/.test(etag);
}

/** fetch says only that it failed; the cause says why. */
function reasonOf(error: Error): string {
  return isError(error.cause) ? `${error.message}: ${errorText(error.cause)}` : error.message;
}
