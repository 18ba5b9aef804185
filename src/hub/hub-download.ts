import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
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

/** A cut connection is taken up again so often, from where it broke. */
const ATTEMPTS = 5;

/**
 * Downloads a file to `target`. What has arrived is kept in `<target>.incomplete` and taken up again by a Range
 * request, in this call after a cut connection, or in a later one. The file appears under its name only when size and
 * digest are those of the listing.
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
        {
          cause: cut,
        },
      );
  }
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
  if (have > 0) headers.range = `bytes=${have}-`;
  const response = await fetch(url, { headers, signal }).catch((cause: unknown) => {
    signal?.throwIfAborted();
    return cause instanceof Error ? cause : new Error(String(cause));
  });
  if (response instanceof Error) return response;
  if (response.status >= 500) return new Error(`status ${response.status}`);
  if (!response.ok) throw refusal(url, response);
  // A server that ignores the range sends everything again.
  const handle = await open(partial, response.status === 206 ? 'a' : 'w');
  let loaded = response.status === 206 ? have : 0;
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
