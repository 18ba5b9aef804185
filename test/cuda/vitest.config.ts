import { defineConfig } from 'vitest/config';

/** `npm run test:cuda`: what onnxruntime does on cuda, as far as a machine without a GPU can tell. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/cuda/**/*.test.ts'],
    pool: 'forks',
    // Each case measures the time of its process, and takes a gigabyte.
    maxWorkers: 1,
    testTimeout: 300_000,
    // The first run downloads 290 MB.
    hookTimeout: 600_000,
  },
});
