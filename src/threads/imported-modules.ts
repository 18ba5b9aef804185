import { stat } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { InvalidArgumentError } from '../errors.ts';

/** In the order of their import. Another process of the same run imports them too, and so knows what they register. */
const urls: string[] = [];

/**
 * Imports modules of the user's own, which `register` models, schedulers, losses, metrics or feature extractors.
 *
 * @param specifiers paths from the working directory (`./mine.js`), `file:` URLs, or names of installed packages.
 * @throws {InvalidArgumentError} for a module that does not exist or throws, with the reason.
 */
export async function importModules(specifiers: readonly string[]): Promise<void> {
  for (const specifier of specifiers) {
    const url = await moduleUrl(specifier);
    try {
      await import(url);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new InvalidArgumentError(`the module '${specifier}' cannot be imported: ${reason}`, { cause });
    }
    if (!urls.includes(url)) urls.push(url);
  }
}

/** What `importModules` has imported, for `importModules` in another process. */
export function importedModules(): readonly string[] {
  return [...urls];
}

async function moduleUrl(specifier: string): Promise<string> {
  if (specifier.startsWith('file:')) return specifier;
  const file = path.resolve(specifier);
  const isFile = (await stat(file).catch(() => undefined))?.isFile() ?? false;
  return isFile || /^\.{0,2}[/\\]/.test(specifier) ? pathToFileURL(file).href : specifier;
}
