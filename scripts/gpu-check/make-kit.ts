/**
 * `npm run gpu-check:kit -- [folder]` packs `npm run gpu-check` for an x86-64 Linux machine that has an NVIDIA GPU, CUDA 13
 * and cuDNN 9 (those of a Python environment with torch will do), but no npm: Node.js, onnxruntime with its CUDA provider,
 * this project as one file, and the fixtures. Default folder: `.gpu-kit`. Two parts of about 40 MB, each of which can be
 * sent on its own; the `run.sh` of the second needs that of the first to have run:
 *
 *   bash .gpu-kit/cuda/unpack.sh
 *   bash .gpu-kit/check/run.sh --output results
 *
 * The second part also trains and draws for `npm run results-images`, from the images that `--only prepare` has written into
 * the folder of the study:
 *
 *   bash .gpu-kit/check/results-images.sh --only train --device cuda --output study
 *
 * Needs npm, python3, tar and xz. The provider is that of onnxruntime 1.29, the last one on npm, with the machine code of
 * `--sm`, default 90 (H100, H200), alone.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

const ORT_VERSION = '1.29.0';
/** The CUDA provider that Microsoft publishes for Unity, repacked for npm. */
const PROVIDER = 'com.github.asus4.onnxruntime.linux-x64-gpu@0.4.9';
const LIBRARIES = 'bin/napi-v6/linux/x64';
/** What the sections read, by its path in the project. */
const FILES = [
  'bench/unet_reference.py',
  ...['ddpm-style', 'default-style', 'variants/resnet-down-up'].map((name) => `test/fixtures/unet/${name}`),
];
/** What the kit can run: a shell script each, and the script that it starts, by its path in the project. */
const SCRIPTS = { 'run.sh': 'scripts/gpu-check/main', 'results-images.sh': 'scripts/results-images/main' };
/** The scripts of threads, by their path in `src`. */
const WORKERS = ['trainers/data/batch-worker', 'pipelines/noise-worker'];
/** Where the kit is unpacked. */
const UNPACKED = '/tmp/iso-diffusion-gpu-check';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { sm: { type: 'string', default: '90' } },
});
const out = path.resolve(positionals[0] ?? '.gpu-kit');
const work = mkdtempSync(path.join(tmpdir(), 'gpu-kit-'));
try {
  makeCudaPart(path.join(out, 'cuda'));
  await makeCheckPart(path.join(out, 'check'));
  console.log(`${out} is ready: see the head of scripts/gpu-check/make-kit.ts`);
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** The CUDA provider. */
function makeCudaPart(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const provider = path.join(unpacked(PROVIDER), 'Plugins/Linux/x64');
  const pruned = path.join(work, 'libonnxruntime_providers_cuda.so');
  const prune = path.join(root, 'scripts/gpu-check/prune_cuda_provider.py');
  execFileSync('python3', [prune, path.join(provider, 'libonnxruntime_providers_cuda.so'), pruned, values.sm], {
    stdio: 'inherit',
  });
  compress(pruned, folder);
  cpSync(
    path.join(provider, 'libonnxruntime_providers_shared.so'),
    path.join(folder, 'libonnxruntime_providers_shared.so'),
  );
  const target = `${UNPACKED}/node_modules/onnxruntime-node/${LIBRARIES}`;
  writeFileSync(
    path.join(folder, 'unpack.sh'),
    `set -euo pipefail
cd "$(dirname "$0")"
mkdir -p ${target}
xz -dc libonnxruntime_providers_cuda.so.xz > ${target}/libonnxruntime_providers_cuda.so
cp libonnxruntime_providers_shared.so ${target}/
`,
  );
}

/** Node.js, onnxruntime and the scripts themselves, with what they read. */
async function makeCheckPart(folder: string): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const node = path.join(work, 'node');
  cpSync(process.execPath, node, { dereference: true });
  execFileSync('strip', [node]);
  compress(node, folder);
  const ort = unpacked(`onnxruntime-node@${ORT_VERSION}`);
  compress(path.join(ort, LIBRARIES, 'libonnxruntime.so.1'), folder);

  const tree = path.join(work, 'tree');
  const modules = path.join(tree, 'node_modules');
  for (const file of ['package.json', 'dist', 'lib', `${LIBRARIES}/onnxruntime_binding.node`])
    cpSync(path.join(ort, file), path.join(modules, 'onnxruntime-node', file), { recursive: true });
  cpSync(unpacked(`onnxruntime-common@${ORT_VERSION}`), path.join(modules, 'onnxruntime-common'), { recursive: true });
  for (const file of FILES) cpSync(path.join(root, file), path.join(tree, file), { recursive: true });
  const own = path.join(modules, 'iso-diffusion');
  for (const file of ['package.json', 'assets'])
    cpSync(path.join(root, file), path.join(own, file), { recursive: true });
  const sessions = 'runtime/session-worker.cjs';
  cpSync(path.join(root, 'src', sessions), path.join(own, 'dist', sessions));
  for (const worker of WORKERS) await bundle(`src/${worker}.ts`, path.join(own, `dist/${worker}.js`));
  for (const script of Object.values(SCRIPTS)) await bundle(`${script}.ts`, path.join(tree, `${script}.js`));
  writeFileSync(path.join(tree, 'package.json'), JSON.stringify({ type: 'module' }));
  execFileSync('tar', ['-cJf', path.join(folder, 'tree.tar.xz'), '-C', tree, '.']);
  for (const [name, script] of Object.entries(SCRIPTS)) writeFileSync(path.join(folder, name), runner(script));
}

/** A shell script that unpacks the kit where that was not done, and runs one of its scripts. */
function runner(script: string): string {
  return `set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
at=${UNPACKED}
mkdir -p $at/bin $at/node_modules/onnxruntime-node/${LIBRARIES}
if [ ! -x $at/bin/node ]; then
  tar -xJf "$here/tree.tar.xz" -C $at
  xz -dc "$here/libonnxruntime.so.1.xz" > $at/node_modules/onnxruntime-node/${LIBRARIES}/libonnxruntime.so.1
  xz -dc "$here/node.xz" > $at/node.new && chmod +x $at/node.new && mv $at/node.new $at/bin/node
fi
# CUDA and cuDNN: those of the system, or of torch's Python packages.
libraries=$(python3 -c 'import glob, site, sys; print(":".join(glob.glob(sys.prefix + "/lib/python3*/site-packages/nvidia/*/lib")))' 2>/dev/null || true)
export LD_LIBRARY_PATH=$libraries:/usr/local/cuda/lib64:/usr/local/nvidia/lib64:\${LD_LIBRARY_PATH:-}
exec $at/bin/node $at/${script}.js "$@"
`;
}

/** The folder of a package from npm. */
function unpacked(name: string): string {
  const folder = mkdtempSync(path.join(work, 'package-'));
  const [{ filename }] = JSON.parse(execFileSync('npm', ['pack', '--json', name], { cwd: folder, encoding: 'utf8' }));
  execFileSync('tar', ['-xzf', filename, '--strip-components=1'], { cwd: folder });
  return folder;
}

/** Machine code compresses a fifth better with the filter for x86. */
function compress(file: string, folder: string): void {
  const packed = execFileSync('xz', ['--x86', '--lzma2=preset=9e', '-c', file], { maxBuffer: 2 ** 30 });
  writeFileSync(path.join(folder, `${path.basename(file)}.xz`), packed);
}

/** One module. What the check does not use, native images, charts and transformers.js, throws where it is used. */
async function bundle(entry: string, outfile: string): Promise<void> {
  const absent = path.join(work, 'absent.cjs');
  writeFileSync(
    absent,
    `module.exports = new Proxy(function () { throw new Error('this is not part of the kit'); }, { get: (target, key) => (key === '__esModule' ? false : target) });\n`,
  );
  await build({
    entryPoints: [path.join(root, entry)],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
    external: ['onnxruntime-node', 'onnxruntime-common'],
    alias: { sharp: absent, '@huggingface/transformers': absent, vega: absent },
    banner: {
      js: "import { createRequire as kitRequire } from 'node:module'; const require = kitRequire(import.meta.url);",
    },
  });
}
