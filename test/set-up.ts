import { afterAll, vi } from 'vitest';
import { limitThreads } from '../src/threads/threads.ts';

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
