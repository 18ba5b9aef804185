import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, inject, vi } from 'vitest';
import { limitThreads } from '../src/threads/threads.ts';

// Threads and processes that the package starts run its build: they begin in a third of the time.
vi.mock(import('../src/files/package-files.ts'), async (original) => {
  const dist = path.join(inject('build'), 'dist');
  const packageScript = (file: string) => pathToFileURL(path.join(dist, file.replace(/\.ts$/, '.js')));
  return { ...(await original()), runsSources: false, packageScript };
});

// Each of two workers has one of two cores, and the models of tests are small: a second thread would wait for work, busily.
limitThreads(1);

// The next file may run in the same process.
const folder = process.cwd();
const { exitCode } = process;
afterAll(() => {
  process.chdir(folder);
  process.exitCode = exitCode;
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
});
