import { copyFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

/*
 * Bundles what Node.js runs into dist/chunks: from a few files the package starts twice as fast as from 400. Browsers and
 * bundlers for them get the files of tsc. The entries share their chunks, so that each class and registry exists once.
 * The folder of the compiled package may be given as argument.
 */

const root = fileURLToPath(new URL('..', import.meta.url));

/** What is started or imported by its path in dist, and its source. */
const ENTRIES: Readonly<Record<string, string>> = {
  index: 'index.ts',
  graph: 'graph/index.ts',
  losses: 'losses/index.ts',
  nn: 'nn/index.ts',
  tfjs: 'losses/arrays/tfjs.ts',
  'cli/main': 'cli/main.ts',
  'trainers/data/batch-worker': 'trainers/data/batch-worker.ts',
  'pipelines/noise-worker': 'pipelines/noise-worker.ts',
  'evaluation/callback/evaluation-process': 'evaluation/callback/evaluation-process.ts',
  'experiments/jobs/job-worker': 'experiments/jobs/job-worker.ts',
};

/** The chunks: what these entries import, without what is in a chunk above. What a call imports is split by itself. */
const CHUNKS: Readonly<Record<string, readonly string[]>> = {
  start: ['cli/main'],
  graph: ['graph', 'nn'],
  losses: ['losses', 'tfjs'],
  threads: ['trainers/data/batch-worker', 'pipelines/noise-worker'],
  core: ['index'],
};

/** Entries that others import too: they are in a chunk. The other entries do something when they are loaded. */
const SHARED: readonly string[] = ['graph', 'losses', 'nn', 'tfjs'];

/** Loads all of transformers.js, which only the entry of the package does. */
const NOT_SHARED = 'src/hub/transformers.ts';

/** @param dist the folder of the compiled package. */
export async function buildNode(dist: string): Promise<void> {
  const sourceOf = (entry: string) => path.join(root, 'src', ENTRIES[entry] ?? '');
  const imports = new Map<string, readonly string[]>();
  const begins = (entry: string) => (SHARED.includes(entry) ? [sourceOf(entry)] : imports.get(sourceOf(entry))) ?? [];
  const bundle = await rolldown({
    input: Object.fromEntries(Object.keys(ENTRIES).map((entry) => [entry, sourceOf(entry)])),
    platform: 'node',
    transform: { target: 'es2022' },
    // zod is 90 files, of which most are languages. `#csv` is for package.json to resolve.
    external: (id) => id === '#csv' || !/^([./#]|zod)/.test(id),
    treeshake: { moduleSideEffects: (id) => !id.includes('/node_modules/zod/') },
    checks: { ineffectiveDynamicImport: false },
    plugins: [
      {
        name: 'imports-of-entries',
        moduleParsed: ({ isEntry, id, importedIds }) => void (isEntry && imports.set(id, importedIds)),
      },
    ],
  });
  await bundle.write({
    dir: dist,
    format: 'esm',
    sourcemap: true,
    keepNames: true,
    chunkFileNames: 'chunks/iso-diffusion-[name].js',
    codeSplitting: {
      groups: Object.entries(CHUNKS).map(([name, entries], place, { length }) => ({
        name,
        priority: length - place,
        test: (id) => !id.endsWith(NOT_SHARED) && entries.some((entry) => begins(entry).includes(id)),
      })),
    },
  });
  await bundle.close();
  copyFileSync(path.join(root, 'node_modules/zod/LICENSE'), path.join(dist, 'chunks/LICENSE-zod'));
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await buildNode(path.resolve(process.argv[2] ?? path.join(root, 'dist')));
