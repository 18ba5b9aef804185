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

/**
 * Files that need a process of their own. The others share one for each worker, so that onnxruntime and most modules are loaded
 * once; the set-up file puts back what a file has changed of its process.
 */
const OWN_PROCESS = [
  // They replace modules that others import.
  'test/pipelines/pipeline.test.ts',
  'test/{runtime,trainers}/tf32.test.ts',
  'test/runtime/{device,training-session}.test.ts',
  // What they check is said once a process.
  'test/troubleshooting.test.ts',
  'test/cases/diffusers-folder.test.ts',
  'test/schedulers/of-folder.test.ts',
  // They register things of their own under names that others list or want to be free.
  'test/autoencoders/folders.test.ts',
  'test/cli/import.test.ts',
  'test/evaluation/{parts,registries}.test.ts',
  'test/graph/user-op.test.ts',
  'test/losses/iso.test.ts',
  'test/models/registry.test.ts',
  'test/nn/dit.test.ts',
  'test/pipelines/own-schedulers.test.ts',
  'test/schedulers/scheduler.test.ts',
  // It imports a module of a user, which every process that is started later imports too.
  'test/threads/channel.test.ts',
  // They measure memory, also of processes they start: the peak of one begins with the memory of the process that starts it.
  'test/files/memory.test.ts',
  'test/runtime/gradient-session.test.ts',
  'test/trainers/gradient-checkpointing.test.ts',
  // They have denormal numbers, which onnxruntime makes zero in a thread that has run a session.
  'test/files/{float-formats,protobuf}.test.ts',
];

export default defineConfig(({ mode }) => {
  const project = { pool: 'forks' as const, setupFiles: ['test/set-up.ts'], testTimeout: 60_000, hookTimeout: 60_000 };
  const exclude = [
    ...configDefaults.exclude,
    'test/browser/**',
    'test/cuda/**',
    ...(mode === 'webgpu' ? [] : [WEBGPU_TESTS]),
    ...(mode === 'mpi' ? [] : [MPI_TESTS]),
    ...(mode === 'test' ? LONG_TESTS : []),
  ];
  const include = mode === 'long' ? LONG_TESTS : ['test/**/*.test.ts'];
  const shared = { ...project, name: 'shared process', include, exclude: [...exclude, ...OWN_PROCESS], isolate: false };
  const own = { ...project, name: 'own process', include: mode === 'test' ? OWN_PROCESS : include, exclude };
  return {
    test: {
      globalSetup: ['test/build.ts'],
      maxWorkers: 2,
      projects: [{ test: own }, ...(mode === 'test' ? [{ test: shared }] : [])],
    },
  };
});
