import { join, resolve } from '#platform/path';
import { HubError } from '../../errors.ts';
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
  const { revision = 'main', variant, local_files_only, token: given, endpoint } = options;
  const reason = offlineReason() ?? (local_files_only ? 'local_files_only is set' : undefined);
  if (reason) throw new HubError(`'${name}' is not in the store of this page, and ${reason}`);
  const token = accessToken(given);
  const folder = resolve(join('hub', ...name.split('/'), encodeURIComponent(revision)));
  const address = `${hubEndpoint(endpoint)}/${name}/resolve/${encodeURIComponent(revision)}/`;
  await fetchPipeline(folder, address, {
    variant,
    ema: true,
    prefer: 'weights',
    ...(token ? { headers: { authorization: `Bearer ${token}` } } : {}),
  });
  return folder;
}
