import { mkdir, writeFile } from '#platform/fs';
import { dirname, join, resolve } from '#platform/path';
import { errorText, HubError } from '../../errors.ts';
import { accessToken, hubEndpoint, offlineReason } from '../environment.ts';
import type { HubOptions } from '../hub-options.ts';
import { fetchPipeline } from '../pipeline-source.ts';

/**
 * Fetches the files of a pipeline from the Hugging Face Hub into the store and returns their folder. The browser's own
 * cache keeps what was fetched before.
 *
 * @throws {HubError} when the Hub refuses or cannot be reached, or has no such pipeline.
 */
export async function downloadSnapshot(name: string, options: HubOptions = {}): Promise<string> {
  const { folder, address, headers } = repositoryOf(name, options);
  const { variant, dtype } = options;
  await fetchPipeline(folder, address, { variant, dtype, ema: true, prefer: 'weights', headers });
  return folder;
}

/**
 * Fetches one file from the Hugging Face Hub into the store and returns its path.
 *
 * @throws {HubError} when the Hub refuses or cannot be reached, or has no such file.
 */
export async function downloadFile(name: string, file: string, options: HubOptions = {}): Promise<string> {
  const { folder, address, headers } = repositoryOf(name, options);
  const url = address + file.split('/').map(encodeURIComponent).join('/');
  const response = await fetch(url, { headers }).catch((cause: unknown) => {
    throw new HubError(`${url} cannot be fetched: ${errorText(cause)}`, { cause });
  });
  if (!response.ok) throw new HubError(`${url} cannot be fetched: HTTP ${response.status}`);
  const target = join(folder, file);
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, new Uint8Array(await response.arrayBuffer()));
  return target;
}

/** Where the files of a repository are, and where the store keeps them. @throws {HubError} when a page may not ask. */
function repositoryOf(name: string, { revision = 'main', local_files_only, token: given, endpoint }: HubOptions) {
  const reason = offlineReason() ?? (local_files_only ? 'local_files_only is set' : undefined);
  if (reason) throw new HubError(`'${name}' is not in the store of this page, and ${reason}`);
  const token = accessToken(given);
  const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
  return {
    folder: resolve(join('hub', ...name.split('/'), encodeURIComponent(revision))),
    address: `${hubEndpoint(endpoint)}/${name}/resolve/${encodeURIComponent(revision)}/`,
    headers,
  };
}
