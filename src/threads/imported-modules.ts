import { readFileSync } from 'node:fs';
import { register } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { errorText, InvalidArgumentError } from '../errors.ts';
import { packageFile, runsSources } from '../files/package-files.ts';
import { isFile } from '../files/regular-file.ts';
import * as z from '../zod.ts';

/** In the order of their import. Another process of the same run imports them too, and so knows what they register. */
const urls: string[] = [];

/**
 * Imports modules of the user's own, which `register` models, schedulers, losses, metrics or feature extractors.
 * Wherever they lie, their `import ... from 'iso-diffusion'` is this running copy of the package with its registries.
 *
 * @param specifiers paths from the working directory (`./mine.js`), `file:` URLs, or names of installed packages.
 * @throws {InvalidArgumentError} for a module that does not exist or throws, with the reason.
 */
export async function importModules(specifiers: readonly string[]): Promise<void> {
  if (specifiers.length > 0) resolveThisPackage();
  for (const specifier of specifiers) {
    const url = await moduleUrl(specifier);
    try {
      await import(url);
    } catch (cause) {
      const [reason] = errorText(cause).split('\n');
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
  return (await isFile(file)) || /^\.{0,2}[/\\]/.test(specifier) ? pathToFileURL(file).href : specifier;
}

const packageSchema = z.object({
  name: z.string(),
  exports: z.record(z.string(), z.union([z.string(), z.object({ types: z.string(), default: z.string() })])),
});
let isResolved = false;

/** Directs imports of this package to the files that run: in a checkout the sources, else the build. */
function resolveThisPackage(): void {
  if (isResolved) return;
  isResolved = true;
  const text = readFileSync(packageFile('package.json'), 'utf8');
  const { name, exports } = packageSchema.parse(JSON.parse(text));
  const entries = Object.entries(exports).flatMap(([entry, target]) => {
    if (typeof target === 'string') return [];
    const source = target.types.replace('./dist/', './src/').replace(/\.d\.ts$/, '.ts');
    const file = runsSources ? source : target.default;
    return [[name + entry.slice(1), packageFile(file).href]];
  });
  // tsx, which runs a checkout, takes .js files without a package.json for CommonJS, whatever their syntax.
  const hook = `const entries = new Map(${JSON.stringify(entries)});
export async function resolve(specifier, context, next) {
  const resolved = await next(entries.get(specifier) ?? specifier, context);
  const isModule = ${runsSources} && resolved.format === 'commonjs' && /^(?!.*node_modules).*\\.[jt]s$/.test(resolved.url);
  return isModule ? { ...resolved, format: 'module' } : resolved;
}`;
  register(`data:text/javascript,${encodeURIComponent(hook)}`);
}
