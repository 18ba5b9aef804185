import path from 'node:path';
import { HubError, InvalidArgumentError } from '../../errors.ts';
import { hubUser, type PushPlan, type PushToHubOptions, pushPlan, pushToHub } from '../../hub/push-to-hub.ts';
import * as z from '../../zod.ts';
import { formatTable } from '../ui/table.ts';
import { givenFlag, grouped, option, type Settings } from './command-options.ts';

/** Options of an upload, by the names of diffusers' and transformers' scripts. */
export const hubOptions = grouped('Hub:', {
  hub_model_id: option(
    '--hub-model-id <owner/name>',
    z.optional(z.string().check(z.minLength(1))),
    "repository to push to (default: the output folder's name, of the user whose token it is)",
  ),
  hub_private_repo: option('--hub-private-repo', z.optional(z.boolean()), 'a new repository is private'),
  hub_token: option('--hub-token <token>', z.optional(z.string()), 'token with write access (default: HF_TOKEN)'),
  dry_run: option('--dry-run', z.optional(z.boolean()), 'list what a push would send, and send nothing'),
});

export const pushOptions = grouped('Hub:', {
  push_to_hub: option(
    '--push-to-hub',
    z._default(z.boolean(), false),
    'push the pipeline to the Hub when it is trained',
  ),
  ...hubOptions,
});

/** Where and how a pipeline is pushed. */
export interface PushTarget {
  readonly repo: string;
  readonly isDryRun: boolean;
  readonly options: PushToHubOptions;
}

/** Stands for the name that only the Hub knows, which a dry run does not ask. */
const UNKNOWN_USER = 'YOUR-NAME';

/**
 * The repository, known before there is anything to push: a run may take days.
 *
 * @param folder of the run or the pipeline: it names the repository where nothing else does.
 * @throws {HubError} when there is no token, or not a valid one.
 */
export async function pushTarget(
  folder: string,
  { hub_model_id, hub_private_repo, hub_token: token, dry_run }: Settings<typeof hubOptions>,
): Promise<PushTarget> {
  const isDryRun = dry_run ?? false;
  const { base, dir } = path.parse(path.resolve(folder));
  const name = hub_model_id ?? (base === 'pipeline' ? path.basename(dir) : base);
  const owner = isDryRun ? UNKNOWN_USER : await hubUser({ token });
  return {
    repo: name.includes('/') ? name : `${owner}/${name}`,
    isDryRun,
    options: { token, private: hub_private_repo },
  };
}

/** @throws {InvalidArgumentError} when an option of a push is given without it. */
export function refuseUnusedHubOptions(settings: Settings<typeof pushOptions>): void {
  const unused = settings.push_to_hub
    ? undefined
    : givenFlag(settings, Object.keys(hubOptions) as (keyof typeof hubOptions)[]);
  if (unused !== undefined) throw new InvalidArgumentError(`${unused} is for a push: add --push-to-hub`);
}

/** Pushes a pipeline, or lists what it would send, and returns what to print. */
export async function push(folder: string, { repo, isDryRun, options }: PushTarget): Promise<string> {
  if (isDryRun) return planText(await pushPlan(folder, repo, options));
  try {
    return `pushed: ${await pushToHub(folder, repo, options)}`;
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    const again = `iso-diffusion push --model ${folder} --hub-model-id ${repo}`;
    throw new HubError(`${error.message}\nThe pipeline is in ${folder}. Push it again with: ${again}`, {
      cause: error,
    });
  }
}

function planText({ url, revision, private: isPrivate, commit_message, files, card }: PushPlan): string {
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  const facts = [
    ['repository', url],
    ['branch', revision],
    ['if new', isPrivate ? 'private' : 'public'],
    ['commit', commit_message],
  ];
  return [
    `dry run: nothing is sent. A push would send ${files.length} files, ${bytes} bytes`,
    formatTable(['to', ''], facts),
    formatTable(
      ['file', 'bytes'],
      files.map(({ path: file, size }) => [file, size]),
    ),
    card === undefined ? 'There is no README.md: the repository has no model card.' : `README.md:\n\n${card.trimEnd()}`,
  ].join('\n\n');
}
