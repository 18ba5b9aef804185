import { configDefaults, defineConfig } from 'vitest/config';

/** SwiftShader takes a minute for these: `npm run test:webgpu`, which CI runs too. */
const WEBGPU_TESTS = 'test/runtime/webgpu*.test.ts';

/** They start mpirun: `npm run test:mpi`, which CI runs too. */
const MPI_TESTS = 'test/distributed/mpi*.test.ts';

export default defineConfig(({ mode }) => ({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/build.ts'],
    exclude: [
      ...configDefaults.exclude,
      'test/browser/**',
      'test/cuda/**',
      ...(mode === 'webgpu' ? [] : [WEBGPU_TESTS]),
      ...(mode === 'mpi' ? [] : [MPI_TESTS]),
    ],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
}));
