/**
 * Lists the kernels that tfjs backends register, read from the sources that npm serves, into
 * test/fixtures/tfjs/kernels.json. tfjs-node itself is not installed: its install script downloads TensorFlow.
 *
 *   npx tsx scripts/tfjs-kernels.ts
 */
import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';

const PACKAGES = ['@tensorflow/tfjs-node', '@tensorflow/tfjs-backend-webgpu'];
const VERSION = '4.22.0';
const target = fileURLToPath(new URL('../test/fixtures/tfjs/kernels.json', import.meta.url));
/** The names that kernel files use for kernels, such as `_FusedMatMul`, are constants of tfjs-core. */
const core: Readonly<Record<string, unknown>> = createRequire(import.meta.url)('@tensorflow/tfjs-core');

interface Packed {
  readonly filename: string;
  readonly integrity: string;
}

async function pack(name: string, folder: string): Promise<Packed> {
  const args = ['pack', '--json', '--pack-destination', folder, `${name}@${VERSION}`];
  const { stdout } = await promisify(execFile)('npm', args);
  const [packed]: Packed[] = JSON.parse(stdout);
  if (!packed) throw new Error(`npm packed nothing for ${name}`);
  return packed;
}

/** The JavaScript and JSON files of a package, by their paths in it. */
async function sources(archive: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const entries = extract();
  entries.on('entry', (header, stream, next) => {
    const file = header.name.replace(/^package\//, '');
    text(stream).then((content) => {
      if (/\.js(on)?$/.test(file)) files.set(file, content);
      next();
    }, next);
  });
  await pipeline(createReadStream(archive), createGunzip(), entries);
  return files;
}

/** The kernels of the files that dist/register_all_kernels.js takes in, which lists the configuration of each. */
function registeredKernels(files: ReadonlyMap<string, string>): string[] {
  const register = files.get('dist/register_all_kernels.js') ?? '';
  const listed = /kernelConfigs = \[([\s\S]*?)\]/.exec(register)?.[1]?.split(',') ?? [];
  const modules = new Set([...register.matchAll(/['"]\.\/kernels\/(\w+)['"]/g)].map(([, file]) => file));
  const names = [...modules].flatMap((file) => {
    const source = files.get(`dist/kernels/${file}.js`) ?? '';
    return [...source.matchAll(/kernelName: (?:\w+\.)?['"]?(\w+)/g)].map(([, name = '']) => {
      const value = core[name] ?? name;
      return typeof value === 'string' ? value : name;
    });
  });
  const kernels = [...new Set(names)].sort();
  if (kernels.length !== listed.length)
    throw new Error(`${kernels.length} kernels were found, but ${listed.length} are registered`);
  return kernels;
}

const folder = await mkdtemp(path.join(tmpdir(), 'tfjs-kernels-'));
try {
  const packages: Record<string, unknown> = {};
  for (const name of PACKAGES) {
    const { filename, integrity } = await pack(name, folder);
    const files = await sources(path.join(folder, filename));
    const kernels = registeredKernels(files);
    const { dependencies, peerDependencies } = JSON.parse(files.get('package.json') ?? '{}');
    // The gradients are tfjs-core's, which comes with @tensorflow/tfjs.
    const tfjs = dependencies?.['@tensorflow/tfjs'] ?? peerDependencies?.['@tensorflow/tfjs-core'];
    packages[name] = { version: VERSION, integrity, tfjs, source: 'dist/register_all_kernels.js', kernels };
    console.log(`${name} ${VERSION} registers ${kernels.length} kernels`);
  }
  await mkdir(path.dirname(target), { recursive: true });
  const written = { written_by: 'scripts/tfjs-kernels.ts', packages };
  await writeFile(target, `${JSON.stringify(written, null, 1)}\n`);
} finally {
  await rm(folder, { recursive: true });
}
