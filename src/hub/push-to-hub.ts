import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { errorText, FileFormatError, HubError, InvalidArgumentError } from '../errors.ts';
import type { CardResults } from './card-results.ts';
import { accessToken, hubEndpoint, offlineReason } from './environment.ts';
import { readPipelineFolder } from './open-pretrained.ts';
import { pipelineFiles } from './pipeline-folder.ts';
import { HUB_ID, type HubOptions, hubAccess } from './repository.ts';

/** How a pipeline is uploaded. `token` needs write access. */
export interface PushToHubOptions extends Pick<HubOptions, 'token' | 'endpoint' | 'fetch'> {
  /** Whether a new repository is private; default false. An existing one stays as it is. */
  readonly private?: boolean | undefined;
  /** The title of the commit; default 'Upload a pipeline of iso-diffusion'. */
  readonly commit_message?: string | undefined;
  /** The branch that is committed to; default 'main'. */
  readonly revision?: string | undefined;
  /** Results to put on the card that is sent, in place of those it has; default: it keeps them. */
  readonly results?: CardResults | undefined;
}

/** What {@link pushToHub} sends. */
export interface PushPlan {
  /** The address of the repository. */
  readonly url: string;
  /** The branch that is committed to. */
  readonly revision: string;
  /** Whether the repository becomes private, if it is new. */
  readonly private: boolean;
  /** The title of the commit. */
  readonly commit_message: string;
  /** Every file: its path in the repository, and its size in bytes. */
  readonly files: readonly {
    /** Relative, with `/`. */
    readonly path: string;
    /** In bytes. */
    readonly size: number;
  }[];
  /** The model card, README.md, as it is sent; undefined where the folder has none. */
  readonly card: string | undefined;
}

/** The names that a card of ours has for the folder it is in. On the Hub they are the repository's. */
const THIS_FOLDER = /(['"])\.\/this-folder\1/g;

/**
 * What {@link pushToHub} would send with the same arguments. Nothing is sent, and nobody is asked.
 *
 * @param repo `owner/name`.
 * @throws {FileFormatError} when the folder is not a pipeline. @throws {InvalidArgumentError} when `repo` is no Hub id.
 * @example
 * const { files, card } = await pushPlan('./runs/digits/pipeline', 'me/digits');
 */
export async function pushPlan(folder: string, repo: string, options: PushToHubOptions = {}): Promise<PushPlan> {
  if (!HUB_ID.test(repo)) throw new InvalidArgumentError(`'${repo}' is not a Hub id of the form owner/name`);
  const { dir } = await readPipelineFolder(folder, { require: [] });
  const found = await readdir(dir, { recursive: true, withFileTypes: true });
  const paths = found
    .filter((file) => file.isFile())
    .map((file) => path.relative(dir, path.join(file.parentPath, file.name)).split(path.sep))
    // Nor what lies in a hidden folder: `.git/config` may hold a token.
    .filter((parts) => !parts.some((part) => part.startsWith('.')))
    .map((parts) => parts.join('/'))
    .sort();
  if (!paths.some((file) => file.endsWith('.safetensors')))
    throw new FileFormatError(`${folder} has no .safetensors, which loading a pipeline needs.`);
  const card = await cardFor(repo, dir, paths, options.results);
  const sizes = await Promise.all(paths.map(async (file) => (await stat(path.join(dir, file))).size));
  const files = paths.map((file, i) => ({ path: file, size: sizes[i] ?? 0 })).filter((file) => file.path !== CARD);
  if (card !== undefined) files.unshift({ path: CARD, size: Buffer.byteLength(card) });
  return {
    url: `${hubEndpoint(options.endpoint)}/${repo}`,
    revision: options.revision ?? 'main',
    private: options.private ?? false,
    commit_message: options.commit_message ?? 'Upload a pipeline of iso-diffusion',
    files,
    card,
  };
}

const CARD = 'README.md';

/** The card with the repository's name in its examples, and with the results. */
async function cardFor(repo: string, dir: string, paths: readonly string[], results: CardResults | undefined) {
  const stored = paths.includes(CARD) ? await readFile(path.join(dir, CARD), 'utf8') : undefined;
  const named = stored?.replace(THIS_FOLDER, (_, quote: string) => `${quote}${repo}${quote}`);
  if (!results) return named;
  const { withResults } = await import('./card-results.ts');
  const drawn = paths.includes(pipelineFiles.pointScaler) ? 'point' : 'image';
  return withResults(named ?? '', results, {
    name: repo.split('/')[1] ?? repo,
    task: `unconditional-${drawn}-generation`,
  });
}

/**
 * Uploads a saved pipeline folder, of any layout and variant, to the Hugging Face Hub in one commit; the repository is
 * created if it is missing. Large files go up as Git LFS objects, streamed from the disk. In the examples of the model card
 * the repository stands for the folder.
 *
 * @param repo `owner/name`.
 * @returns the address of the repository.
 * @throws {FileFormatError} when the folder is not a pipeline; nothing is uploaded then.
 * @throws {HubError} when there is no token or the Hub refuses.
 * @example
 * await pushToHub('./runs/digits/pipeline', 'me/digits', { private: true });
 */
export async function pushToHub(folder: string, repo: string, options: PushToHubOptions = {}): Promise<string> {
  const plan = await pushPlan(folder, repo, options);
  const settings = uploadAccess(`nothing is uploaded to ${repo}`, options);
  const files = plan.files.map((file) => ({
    path: file.path,
    content:
      file.path === CARD && plan.card !== undefined
        ? new Blob([plan.card])
        : pathToFileURL(path.resolve(folder, file.path)),
  }));
  const { createRepo, HubApiError, uploadFiles } = await import('@huggingface/hub');
  // 409: the repository exists already.
  const ignoreExisting = (error: unknown) => {
    if (!(error instanceof HubApiError && error.statusCode === 409)) throw error;
  };
  try {
    await createRepo({ repo, private: plan.private, ...settings }).catch(ignoreExisting);
    const { commit_message: commitTitle, revision: branch } = plan;
    await uploadFiles({ repo, files, commitTitle, branch, useXet: false, ...settings });
  } catch (cause) {
    throw new HubError(`the upload to ${repo} failed: ${errorText(cause)}`, { cause });
  }
  return plan.url;
}

/**
 * The name of the user whose token it is.
 *
 * @throws {HubError} when there is no token, the Hub does not know it, or cannot be reached.
 */
export async function hubUser(options: Pick<HubOptions, 'token' | 'endpoint' | 'fetch'> = {}): Promise<string> {
  const settings = uploadAccess('the Hub is not asked for your name', options);
  const { HubApiError, whoAmI } = await import('@huggingface/hub');
  try {
    return (await whoAmI(settings)).name;
  } catch (cause) {
    const refused = cause instanceof HubApiError;
    const advice = refused ? 'check the token, in HF_TOKEN or the option token' : 'check the network';
    throw new HubError(`the Hub does not say whose token it is (${errorText(cause)}): ${advice}`, { cause });
  }
}

/** @throws {HubError} when the Hub may not be asked, or there is no token. */
function uploadAccess(outcome: string, options: Pick<HubOptions, 'token' | 'endpoint' | 'fetch'>) {
  const offline = offlineReason();
  if (offline) throw new HubError(`${outcome} because ${offline}`);
  if (!accessToken(options.token))
    throw new HubError('uploads need a token: set HF_TOKEN to one with write access, or pass the option token');
  // The token goes into the headers: @huggingface/hub itself refuses one of another form than its own.
  return { ...hubAccess(options), accessToken: '' };
}
