import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/*
 * Builds dist/web/iso-diffusion.js: the package as one module for a page without a bundler, such as one that imports it
 * from a CDN. It loads the parts beside it when they are needed, and onnxruntime-web's .wasm file from jsDelivr, unless
 * `configureRuntime` names another place. The folder of the compiled package may be given as argument.
 */

const root = fileURLToPath(new URL('..', import.meta.url));
const { dependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  dependencies: Record<string, string>;
};
const dist = path.resolve(process.argv[2] ?? path.join(root, 'dist'));
const wasm_paths = `https://cdn.jsdelivr.net/npm/onnxruntime-web@${dependencies['onnxruntime-web']}/dist/`;

await build({
  stdin: {
    contents: `
      import { configureRuntime } from './index.web.js';
      configureRuntime({ wasm_paths: ${JSON.stringify(wasm_paths)} });
      export * from './index.web.js';`,
    resolveDir: dist,
    sourcefile: 'iso-diffusion.js',
  },
  outdir: path.join(dist, 'web'),
  entryNames: 'iso-diffusion',
  chunkNames: 'parts/[name]-[hash]',
  bundle: true,
  splitting: true,
  minify: true,
  platform: 'browser',
  format: 'esm',
  target: 'es2022',
  legalComments: 'linked',
  logLevel: 'warning',
});
