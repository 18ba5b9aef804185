import { configDefaults, defineConfig } from 'vitest/config';

/** SwiftShader takes a minute for these: `npm run test:webgpu`, which CI runs too. */
const WEBGPU_TESTS = 'test/runtime/webgpu*.test.ts';

/** They start mpirun: `npm run test:mpi`, which CI runs too. */
const MPI_TESTS = 'test/distributed/mpi*.test.ts';

/** Runs that are killed and go on, sweeps, the memory of whole runs, and the readers of files on damaged ones: `npm run test:long`, which CI runs too. */
const LONG_TESTS = [
  'test/trainers/resume.test.ts',
  'test/experiments/{sweep,jobs}.test.ts',
  'test/cli/reproduce.test.ts',
  'test/cli/estimated-memory.test.ts',
  'test/evaluation/callback/evaluation-callback.test.ts',
  'test/scripts/{fuzz,ci-summary}.test.ts',
  'test/scripts/results-images/resume.test.ts',
];

export default defineConfig(({ mode }) => ({
  test: {
    include: mode === 'long' ? LONG_TESTS : ['test/**/*.test.ts'],
    globalSetup: ['test/build.ts'],
    setupFiles: ['test/one-thread.ts'],
    exclude: [
      ...configDefaults.exclude,
      'test/browser/**',
      'test/cuda/**',
      ...(mode === 'webgpu' ? [] : [WEBGPU_TESTS]),
      ...(mode === 'mpi' ? [] : [MPI_TESTS]),
      ...(mode === 'test' ? LONG_TESTS : []),
    ],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
}));
