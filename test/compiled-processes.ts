import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { inject } from 'vitest';
import type * as packageFiles from '../src/files/package-files.ts';

/**
 * `src/files/package-files.ts` for `vi.mock`, so that the processes which the package starts run its build: they begin in a
 * third of the time. Not for tests that import modules of a user, who would get a second copy of the package.
 */
export async function compiledProcesses(original: () => Promise<typeof packageFiles>): Promise<typeof packageFiles> {
  const dist = path.join(inject('build'), 'dist');
  const packageScript = (file: string) => pathToFileURL(path.join(dist, file.replace(/\.ts$/, '.js')));
  return { ...(await original()), runsSources: false, packageScript };
}
