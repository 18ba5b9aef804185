import { defineConfig } from 'vitest/config';

/** `npm run test:browser`: what needs a real browser. One file at a time, because each measures times. */
export default defineConfig({
  resolve: { alias: { 'iso-diffusion': new URL('../../src/index.ts', import.meta.url).pathname } },
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/browser/**/*.test.ts'],
    globalSetup: ['test/build.ts'],
    pool: 'forks',
    maxWorkers: 1,
    fileParallelism: false,
    // Shaders of a U-Net take half a minute to compile for a GPU in software.
    testTimeout: 300_000,
    hookTimeout: 120_000,
    // Some tests hold a time against a limit, which a busy machine can miss once.
    retry: 2,
    expect: { poll: { timeout: 30_000 } },
  },
});
