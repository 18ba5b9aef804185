import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { createRepo, HubApiError, uploadFiles } from '@huggingface/hub';
import { errorText, FileFormatError, HubError, InvalidArgumentError } from '../errors.ts';
import { accessToken, offlineReason } from './environment.ts';
import { readPipelineFolder } from './open-pretrained.ts';
import { type HubOptions, hubAccess } from './repository.ts';

/** How a pipeline is uploaded. `token` needs write access. */
export interface PushToHubOptions extends Pick<HubOptions, 'token' | 'endpoint' | 'fetch'> {
  /** Whether a new repository is private; default false. An existing one stays as it is. */
  readonly private?: boolean | undefined;
  /** The title of the commit; default 'Upload a pipeline of iso-diffusion'. */
  readonly commit_message?: string | undefined;
  /** The branch that is committed to; default 'main'. */
  readonly revision?: string | undefined;
}

/**
 * Uploads a saved pipeline folder, of any layout and variant, to the Hugging Face Hub in one commit; the repository is
 * created if it is missing. Large files go up as Git LFS objects, streamed from the disk.
 *
 * @param repo `owner/name`.
 * @returns the address of the repository.
 * @throws {FileFormatError} when the folder is not a pipeline; nothing is uploaded then.
 * @throws {HubError} when there is no token or the Hub refuses.
 * @example
 * await pushToHub('./runs/digits/pipeline', 'me/digits', { private: true });
 */
export async function pushToHub(folder: string, repo: string, options: PushToHubOptions = {}): Promise<string> {
  if (!/^[\w.-]+\/[\w.-]+$/.test(repo))
    throw new InvalidArgumentError(`'${repo}' is not a Hub id of the form owner/name`);
  const { dir } = await readPipelineFolder(folder, { require: [] });
  const offline = offlineReason();
  if (offline) throw new HubError(`nothing is uploaded to ${repo} because ${offline}`);
  // The token goes into the headers: @huggingface/hub itself refuses one of another form than its own.
  const settings = { ...hubAccess(options), accessToken: '' };
  if (!accessToken(options.token))
    throw new HubError('uploads need a token: set HF_TOKEN to one with write access, or pass the option token');
  const files = await readdir(dir, { recursive: true, withFileTypes: true });
  const uploads = files
    .filter((file) => file.isFile() && !file.name.startsWith('.'))
    .map((file) => {
      const full = path.join(file.parentPath, file.name);
      return { path: path.relative(dir, full).split(path.sep).join('/'), content: pathToFileURL(full) };
    });
  if (!uploads.some((file) => file.path.endsWith('.safetensors')))
    throw new FileFormatError(`${folder} has no .safetensors, which loading a pipeline needs.`);
  try {
    await createRepo({ repo, private: options.private ?? false, ...settings }).catch(ignoreExisting);
    await uploadFiles({
      repo,
      files: uploads,
      commitTitle: options.commit_message ?? 'Upload a pipeline of iso-diffusion',
      branch: options.revision ?? 'main',
      useXet: false,
      ...settings,
    });
  } catch (cause) {
    throw new HubError(`the upload to ${repo} failed: ${errorText(cause)}`, { cause });
  }
  return `${settings.hubUrl}/${repo}`;
}

/** 409: the repository exists already. */
function ignoreExisting(error: unknown): void {
  if (!(error instanceof HubApiError && error.statusCode === 409)) throw error;
}
