import type { DownloadOptions, RemoteFile } from '../download.ts';

/** Nothing is cached in files by a page: its browser keeps what it fetched. */
export const defaultCacheDir = (): string => '/cache';

/** @throws the error of `fail`, always: the servers of weights and archives do not let pages read them. */
export async function download({ url }: RemoteFile, target: string, { fail }: DownloadOptions): Promise<void> {
  throw fail(`${url} is not fetched by a page, so there is no ${target} in its store`);
}
