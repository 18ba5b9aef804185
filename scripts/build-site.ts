import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BuildOptions, build } from 'esbuild';

/*
 * Builds the page of `iso-diffusion play`, into dist/site for the package, or with a folder as argument as a whole static
 * site, with the .wasm file of onnxruntime-web in it. All URLs are relative: the folder works at any address.
 */

const root = fileURLToPath(new URL('..', import.meta.url));
const site = path.join(root, 'site');
const ORT_FILES = path.join(root, 'node_modules/onnxruntime-web/dist');
/** What onnxruntime-web fetches on a CPU. */
const WASM = 'ort-wasm-simd-threaded.wasm';
/** And where a page has a GPU, for images only. */
const WEBGPU_WASM = 'ort-wasm-simd-threaded.asyncify.wasm';

const [given] = process.argv.slice(2);
const out = path.resolve(given ?? path.join(root, 'dist/site'));
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
const imageWorker = path.join(site, 'worker/image-worker.ts');
const shared = {
  outdir: out,
  bundle: true,
  splitting: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  platform: 'browser',
  conditions: ['browser'],
  // Only opening a model of the Hub would need it, which the page does not.
  external: ['@huggingface/*'],
  legalComments: 'none',
  logLevel: 'error',
} satisfies BuildOptions;
await build({
  ...shared,
  entryPoints: {
    page: path.join(site, 'page/page.ts'),
    worker: path.join(site, 'worker/worker.ts'),
    'image-worker': imageWorker,
  },
  // For the CPU alone, which is half as large as with WebGPU.
  alias: { '#ort': 'onnxruntime-web/wasm' },
  define: { USES_WEBGPU: 'false' },
});
await build({
  ...shared,
  entryPoints: { 'image-worker-webgpu': imageWorker },
  alias: { '#ort': 'onnxruntime-web/webgpu' },
  define: { USES_WEBGPU: 'true' },
});
for (const name of ['index.html', 'style.css', 'icon.svg', 'first.json', 'ready-plain.f16', 'ready-iso.f16'])
  await cp(path.join(site, 'static', name), path.join(out, name));
await cp(path.join(root, 'assets/digits/digits.csv.gz'), path.join(out, 'digits.csv.gz'));
if (given) for (const name of [WASM, WEBGPU_WASM]) await cp(path.join(ORT_FILES, name), path.join(out, name));
await writeServiceWorker();

/** The service worker keeps exactly the files of this build. */
async function writeServiceWorker(): Promise<void> {
  const files = [...new Set([...(await readdir(out)), WASM])]
    .filter((name) => name !== 'index.html' && name !== WEBGPU_WASM)
    .sort();
  const hash = createHash('sha256');
  for (const name of await readdir(out)) hash.update(await readFile(path.join(out, name)));
  const source = await readFile(path.join(site, 'static/service-worker.js'), 'utf8');
  const text = source
    .replace("'VERSION'", JSON.stringify(hash.digest('hex').slice(0, 16)))
    .replace('[]', JSON.stringify(['./', ...files]));
  await writeFile(path.join(out, 'service-worker.js'), text);
}
