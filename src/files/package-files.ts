import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { BundleError } from '../errors.ts';

/*
 * The files of this package that are opened by path: workers, assets and package.json. They lie around this file, or the
 * chunk that has its code (scripts/build-node.ts), but not where the bundler of an application has moved it. There they
 * are those of the package in node_modules.
 */

const PACKAGE = 'iso-diffusion';

/** Missing where a bundler made CommonJS of this module. */
const here: string | undefined = import.meta.url;

/** A checkout runs its sources, through tsx; the published package holds only its build. */
export const runsSources = here?.endsWith('/src/files/package-files.ts') ?? false;
const isBuild = /\/dist\/(files\/package-files|chunks\/iso-diffusion-start)\.js$/.test(here ?? '');
const isBundled = !runsSources && !isBuild;

/**
 * A file of this package.
 *
 * @param file its path in the package: 'package.json'.
 * @throws {BundleError} when a bundler has separated the code from it, and the package is not in node_modules.
 */
export function packageFile(file: string): URL {
  return new URL(file, packageRoot());
}

/** The version of this package. @throws {BundleError} as {@link packageFile}. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string };
  return version;
}

/**
 * A script of this package that a thread or process runs: its source in a checkout, else its build.
 *
 * @param file the path of its source below `src/`: 'trainers/data/batch-worker.ts'.
 * @throws {BundleError} as {@link packageFile}.
 */
export function packageScript(file: string): URL {
  return packageFile(runsSources ? `src/${file}` : `dist/${file.replace(/\.ts$/, '.js')}`);
}

/** The path of what `require(specifier)` would load for this package. @throws what `require.resolve` throws. */
export function resolveDependency(specifier: string): string {
  return createRequire(here ?? packageFile('package.json')).resolve(specifier);
}

function packageRoot(): URL {
  if (here !== undefined && !isBundled) return new URL('../../', here);
  const root = installedRoot();
  if (root !== undefined) return root;
  throw new BundleError(
    `a bundler has separated the code of ${PACKAGE} from its workers and assets, and there is no ${PACKAGE} in node_modules beside the bundle or the working directory: install it there with npm, or leave it out of the bundle (esbuild: --external:${PACKAGE})`,
  );
}

function installedRoot(): URL | undefined {
  for (const from of [here ?? process.argv[1], path.join(process.cwd(), 'index.js')]) {
    try {
      const file = from === undefined ? undefined : createRequire(from).resolve(`${PACKAGE}/package.json`);
      if (file !== undefined && existsSync(file)) return new URL('./', pathToFileURL(file));
    } catch {
      // Not installed beside this one.
    }
  }
  return undefined;
}
