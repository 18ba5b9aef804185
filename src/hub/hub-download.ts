import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { HubError } from '../errors.ts';

/** A file of a repository, as the Hub lists it. */
export interface HubFile {
  /** With '/' between folders. */
  readonly path: string;
  readonly size: number;
  /** SHA-256 of a large file, or git's SHA-1 of a small one. */
  readonly digest: { readonly kind: 'sha256' | 'git-sha1'; readonly hex: string };
}

export interface DownloadRequest {
  readonly url: string;
  readonly token: string | undefined;
  readonly fetch: typeof fetch;
  /** Told how many bytes are there. */
  readonly onProgress: (loaded: number) => void;
  readonly signal: AbortSignal | undefined;
}

/** A cut connection is taken up again so often, from where it broke, after a pause that doubles. */
const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 100;

/**
 * Downloads a file to `target`. What has arrived is kept in `<target>.incomplete` and taken up again by a Range
 * request, in this call after a cut connection, or in a later one; If-Range with the ETag of the first answer makes a
 * server whose file has changed meanwhile send it whole. The file appears under its name only when size and digest are
 * those of the listing.
 *
 * @throws {HubError} when the server refuses, the connection breaks again and again, or the content is another.
 */
export async function downloadHubFile(
  file: HubFile,
  target: string,
  request: DownloadRequest,
): Promise<void> {
  await mkdir(path.dirname(target), { recursive: true });
  const partial = `${target}.incomplete`;
  for (let attempt = 1; ; attempt++) {
    const cut = await fetchRest(file, partial, request);
    if (!cut) break;
    if (attempt === ATTEMPTS)
      throw new HubError(
        `${request.url}: the connection broke ${ATTEMPTS} times (${cut.message}); run again to go on`,
        { cause: cut },
      );
    await wait(FIRST_PAUSE_MS * 2 ** (attempt - 1), undefined, { signal: request.signal });
  }
  await rm(etagFile(partial), { force: true });
  const digest = await digestOf(partial, file);
  if (digest !== file.digest.hex) {
    await rm(partial, { force: true });
    throw new HubError(
      `${request.url}: the content has the ${file.digest.kind} ${digest}, the Hub lists ${file.digest.hex}: download it again`,
    );
  }
  await rename(partial, target);
}

/** Appends what is missing to `partial`. Returns why it stopped early, or undefined when the size is reached. */
async function fetchRest(
  file: HubFile,
  partial: string,
  { url, token, fetch, onProgress, signal }: DownloadRequest,
): Promise<Error | undefined> {
  let have = (await stat(partial).catch(() => undefined))?.size ?? 0;
  if (have > file.size) have = 0;
  if (have === file.size && file.size > 0) return undefined;
  const headers: Record<string, string> = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (have > 0) {
    headers.range = `bytes=${have}-`;
    const etag = await readFile(etagFile(partial), 'utf8').catch(() => '');
    if (isStrong(etag)) headers['if-range'] = etag;
  }
  const response = await fetch(url, { headers, signal: signal ?? null }).catch((cause: unknown) => {
    signal?.throwIfAborted();
    return cause instanceof Error ? cause : new Error(String(cause));
  });
  if (response instanceof Error) return response;
  if (response.status >= 500) return new Error(`status ${response.status}`);
  const resumed = response.status === 206;
  if (response.status === 416 || (resumed && !startsAt(have, response))) {
    await rm(partial, { force: true });
    return new Error(`the server has no bytes from ${have} on`);
  }
  if (!response.ok) throw refusal(url, response);
  if (!resumed) await rememberEtag(partial, response.headers.get('etag') ?? '');
  // A server that ignores the range, or has another file by now, sends everything again.
  const handle = await open(partial, resumed ? 'a' : 'w');
  let loaded = resumed ? have : 0;
  try {
    for await (const chunk of response.body ?? []) {
      loaded += chunk.length;
      if (loaded > file.size)
        throw new HubError(`${url} sends more than the ${file.size} bytes that the Hub lists`);
      await handle.write(chunk);
      onProgress(loaded);
    }
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof HubError) throw cause;
    return cause instanceof Error ? cause : new Error(String(cause));
  } finally {
    await handle.close();
  }
  return loaded === file.size ? undefined : new Error(`it ended after ${loaded} of ${file.size} bytes`);
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

/** What a status means to the user. */
export function refusal(url: string, { status, statusText }: Response): HubError {
  const reasons: Record<number, string> = {
    401: 'the Hub asks for a token, or there is no such repository: check the name, and set HF_TOKEN for private ones',
    403: 'the token does not give access: accept the terms on the page of the model, or use another token',
    404: 'there is no such repository, revision or file: check the spelling',
    429: 'too many requests: wait a while, or set HF_TOKEN',
  };
  return new HubError(`${url}: status ${status}: ${reasons[status] ?? statusText}`);
}

async function digestOf(partial: string, { digest, size }: HubFile): Promise<string> {
  const hash: Hash = createHash(digest.kind === 'sha256' ? 'sha256' : 'sha1');
  if (digest.kind === 'git-sha1') hash.update(`blob ${size}\0`);
  for await (const chunk of createReadStream(partial)) hash.update(chunk);
  return hash.digest('hex');
}
