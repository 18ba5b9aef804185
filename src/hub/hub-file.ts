import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { listFiles } from '@huggingface/hub';
import { HubError, InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { isFile } from '../files/regular-file.ts';
import { downloadHubFile, type HubFile } from './hub-download.ts';
import {
  access,
  checkHubId,
  commitOf,
  defaultCache,
  endpointOf,
  type HubOptions,
  MAX_FILES,
  named,
  tokenOf,
} from './hub-snapshot.ts';

/**
 * Downloads one file of a repository of the Hugging Face Hub into the cache and returns its path. A file that is there
 * already is not downloaded again; without a network the last one downloaded is taken.
 *
 * @param name `owner/name`.
 * @param file its path in the repository, with '/' between folders.
 * @throws {HubError} when the Hub refuses or cannot be reached and nothing is cached, when there is no such file, or
 * when the download breaks off or is damaged.
 * @throws {InvalidArgumentError} when name, path or revision is malformed.
 *
 * @example
 * const path = await downloadFile('owner/name', 'onnx/model.onnx');
 */
export async function downloadFile(name: string, file: string, options: HubOptions = {}): Promise<string> {
  const { revision = 'main' } = options;
  checkHubId(name, revision);
  const parts = file.split('/');
  if (file.includes('\\') || parts.some((part) => part === '' || part === '.' || part === '..'))
    throw new InvalidArgumentError(`'${file}' is no path of a file in a repository`);
  const root = path.join(options.cache_dir ?? defaultCache(), `models--${name.replace('/', '--')}`);
  // Apart from the refs of whole pipelines, which promise that all their files are there.
  const ref = path.join(root, 'file-refs', encodeURIComponent(revision), ...parts);
  const pathAt = (commit: string) => path.join(root, 'snapshots', commit, ...parts);
  const cached = async () => {
    const commit = (await readFile(ref, 'utf8').catch(() => '')).trim();
    return /^[0-9a-f]{40}$/.test(commit) && (await isFile(pathAt(commit))) ? pathAt(commit) : undefined;
  };
  if (options.local_files_only) {
    const found = await cached();
    if (found) return found;
    throw new HubError(
      `${file} of ${name} at ${revision} is not in the cache ${root}: leave out local_files_only once, with a network`,
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
  const target = pathAt(commit);
  if (!(await isFile(target))) await download(name, commit, file, target, options);
  await writeFileAtomic(ref, commit);
  return target;
}

async function download(name: string, commit: string, file: string, target: string, options: HubOptions) {
  const listed = await listedFile(name, commit, file, options);
  const report = (status: 'initiate' | 'done') => options.progress_callback?.({ status, name, file });
  report('initiate');
  await downloadHubFile(listed, target, {
    url: `${endpointOf(options)}/${name}/resolve/${commit}/${file.split('/').map(encodeURIComponent).join('/')}`,
    token: tokenOf(options),
    fetch: options.fetch ?? fetch,
    onProgress: (loaded) =>
      options.progress_callback?.({
        status: 'progress',
        name,
        file,
        loaded,
        total: listed.size,
        progress: (100 * loaded) / Math.max(listed.size, 1),
      }),
    signal: options.signal,
  });
  report('done');
}

/** @throws {HubError} when the repository has no such file. */
async function listedFile(name: string, commit: string, file: string, options: HubOptions): Promise<HubFile> {
  const listing = listFiles({ repo: name, revision: commit, recursive: true, ...access(options) });
  return named(name, async () => {
    let seen = 0;
    for await (const { type, path: found, size, oid, lfs } of listing) {
      if (++seen > MAX_FILES) throw new HubError(`${name} lists more than ${MAX_FILES} files`);
      if (type !== 'file' || found !== file) continue;
      const digest = lfs
        ? ({ kind: 'sha256', hex: lfs.oid } as const)
        : ({ kind: 'git-sha1', hex: oid ?? '' } as const);
      return { path: file, size: lfs?.size ?? size, digest };
    }
    throw new HubError(`${name} has no file ${file} at ${commit}: check the spelling`);
  });
}
