import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { DatasetError } from '../../../errors.ts';
import { writeFileAtomic } from '../../../files/atomic.ts';

/** A data set could not be fetched; the message says from where to fetch it by other means, and where to put it. */
export class DownloadError extends DatasetError {}

export interface PublishedFile {
  readonly url: string;
  /** MD5 (hex) that its authors, or those who have used it for years, publish. */
  readonly md5: string;
}

const MAX_BYTES = 4 * 1024 ** 3;
/** A server that sends nothing for this long is given up. */
const STALL_MS = 60_000;

/**
 * Fetches a file to `path`, which appears only once it is whole and its checksum is right.
 *
 * @throws {DownloadError} when the server cannot be reached, refuses, stalls, or sends something else.
 */
export async function download(file: PublishedFile, path: string): Promise<void> {
  const { url, md5 } = file;
  const advice = `Fetch ${url} by other means and put it at ${path}, or into a folder that you give as data_dir.`;
  const stall = new AbortController();
  const watchdog = setTimeout(
    () => stall.abort(new Error(`nothing came for ${STALL_MS / 1000} s`)),
    STALL_MS,
  );
  try {
    const response = await fetch(url, { signal: stall.signal });
    if (!response.ok || response.body === null) throw new Error(`the server answered ${response.status}`);
    await writeFileAtomic(path, checked(response.body, md5, watchdog));
  } catch (cause) {
    throw new DownloadError(`${url} could not be downloaded: ${reasonOf(cause)}. ${advice}`, { cause });
  } finally {
    clearTimeout(watchdog);
    stall.abort();
  }
}

/** @throws {DatasetError} when the file at `path` is not the published one. */
export async function requireChecksum(path: string, file: PublishedFile): Promise<void> {
  const hash = createHash('md5');
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  const md5 = hash.digest('hex');
  if (md5 !== file.md5)
    throw new DatasetError(
      `${path} is not the published file (MD5 ${md5}, not ${file.md5}): fetch ${file.url} again`,
    );
}

async function* checked(
  body: AsyncIterable<Uint8Array>,
  md5: string,
  watchdog: NodeJS.Timeout,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('md5');
  let bytes = 0;
  for await (const piece of body) {
    watchdog.refresh();
    bytes += piece.length;
    if (bytes > MAX_BYTES) throw new Error(`more than ${MAX_BYTES} bytes came`);
    hash.update(piece);
    yield piece;
  }
  const found = hash.digest('hex');
  if (found !== md5) throw new Error(`its MD5 is ${found}, but ${md5} is published`);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message;
}
