import type { env as transformersEnv } from '@huggingface/transformers';
import { resolveDependency } from '#files/package-files';
import * as path from '#platform/path';
import { environmentVariable } from '#platform/system';
import { InvalidArgumentError } from '../errors.ts';

/*
 * What says from outside where models come from: the variables of huggingface_hub, and the `env` of transformers.js.
 * Options of a call come before `env`, and `env` before the variables.
 */

type Settings = Pick<
  typeof transformersEnv,
  'allowRemoteModels' | 'allowLocalModels' | 'remoteHost' | 'cacheDir' | 'localModelPath'
>;

/** The address of the Hub unless something names another. */
export const HUGGING_FACE = 'https://huggingface.co';

/** Undefined until the package's entry is imported: the command line does without transformers.js where it can. */
let settings: Settings | undefined;
let defaultCacheDir: string | null = null;
/** False in a browser, where it is about the files of the page's server; those of a store are always allowed. */
let allowsByDefault = true;

/** Makes every lookup of a model follow transformers.js's `env`, whatever is set in it later. */
export function followEnv(env: Settings): void {
  settings = env;
  allowsByDefault = env.allowLocalModels;
  defaultCacheDir = ownFolder('.cache/') ?? env.cacheDir;
}

/** A folder in transformers.js itself, where it caches by default; undefined where a bundle has swallowed the package. */
function ownFolder(name: string): string | undefined {
  try {
    const entry = resolveDependency('@huggingface/transformers');
    return path.join(path.dirname(path.dirname(entry)), name);
  } catch {
    return undefined;
  }
}

/** The variable of huggingface_hub that forbids to ask the Hub, read as it reads them; undefined where none does. */
function offlineVariable(): string | undefined {
  const name = ['HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'].find(environmentVariable);
  const value = name && environmentVariable(name)?.toUpperCase();
  return value && ['1', 'ON', 'YES', 'TRUE'].includes(value) ? name : undefined;
}

/** What forbids to ask the Hub, for errors; undefined where nothing does. */
export function offlineReason(): string | undefined {
  const variable = offlineVariable();
  if (variable) return `${variable} is set`;
  return settings?.allowRemoteModels === false ? 'env.allowRemoteModels is false' : undefined;
}

/** transformers.js, which does not read the variables itself: what forbids to ask the Hub is set in its `env`. */
export async function importTransformers(): Promise<typeof import('@huggingface/transformers')> {
  const transformers = await import('@huggingface/transformers');
  if (offlineVariable()) transformers.env.allowRemoteModels = false;
  return transformers;
}

/** The address of the Hub, without a slash at the end: `HF_ENDPOINT`, unless `env.remoteHost` names another host. */
export function hubEndpoint(endpoint: string | undefined): string {
  const bare = (address: string) => address.replace(/\/+$/, '');
  const host = bare(settings?.remoteHost ?? '');
  const named = host !== '' && host !== HUGGING_FACE ? host : undefined;
  return bare(endpoint ?? named ?? environmentVariable('HF_ENDPOINT') ?? HUGGING_FACE);
}

/** The folder of the cache that `env.cacheDir` names; undefined where it is the default of transformers.js. */
export function envCacheDir(): string | undefined {
  const { cacheDir = null } = settings ?? {};
  return cacheDir === null || cacheDir === defaultCacheDir ? undefined : cacheDir;
}

/** Where a relative name of a model may lie, beside the current folder. */
export function localModelFolder(name: string): string | undefined {
  return settings?.localModelPath ? path.join(settings.localModelPath, name) : undefined;
}

/** Whether local folders may be opened. */
export function allowsLocalModels(): boolean {
  return settings === undefined || settings.allowLocalModels || !allowsByDefault;
}

/** @throws {InvalidArgumentError} when local models are forbidden. */
export function refuseLocalModel(name: string): void {
  if (!allowsLocalModels())
    throw new InvalidArgumentError(`'${name}' is a local model, but env.allowLocalModels is false`);
}

/**
 * The access token: the option, or the variable, without the blanks and line ends that a file leaves around it.
 *
 * @throws {InvalidArgumentError} when no header can hold it.
 */
export function accessToken(token: string | undefined): string | undefined {
  const [source, value] =
    token === undefined
      ? ['HF_TOKEN', environmentVariable('HF_TOKEN') ?? environmentVariable('HUGGING_FACE_HUB_TOKEN')]
      : ['the option token', token];
  const trimmed = value?.trim();
  if (!trimmed) return undefined;
  if (/^[\x21-\x7e]+$/.test(trimmed)) return trimmed;
  throw new InvalidArgumentError(
    `the Hub's token in ${source} has a blank, or a character that is not ASCII: copy it again from the settings of your account`,
  );
}
