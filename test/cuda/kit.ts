import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, open, readFile, rename, rm, symlink } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { errorText } from '../../src/errors.ts';
import type { CaseName } from './cases.ts';
import type { Figures } from './program.ts';
import type { RankReport } from './rank.ts';

/*
 * onnxruntime with its real CUDA provider on a machine without a GPU: under it are CUDA libraries that are built here of
 * `libraries/`, which count and compute nothing. Where onnxruntime places nodes, what it copies, what it allocates and how
 * much time the host takes is as with a GPU. Numbers, and the time of the GPU itself, are not.
 */

const run = promisify(execFile);

/** The provider as npm has it, the onnxruntime-node that it fits, and the checksums of the archives. */
const VERSION = '1.29.0';
const PACKAGES = {
  [`onnxruntime-node@${VERSION}`]:
    'sha512-WjiVVB72riILz8HbYvxvmjKyE/WmkYoSfKY++axo5jAR609HQg8MwiG/HhShpTcJfmmAdzxxmB+MMST3A+SiPA==',
  [`onnxruntime-common@${VERSION}`]:
    'sha512-/F63/e2VJoaVXGGNu6S5QH7jivBThGO95OzAVXXQ8hTta/b1QxI8udHa6cI3+3mAb5WWIIaMMwfZw01oivjJ1g==',
  'com.github.asus4.onnxruntime.linux-x64-gpu@0.4.9':
    'sha512-FopIhNE/Ng+v2X65wVc9clPCBCvhvA53Hxo2U0Kf5fGdVsC7iCA+mZ0KLWggcQAj7TIZ6pNidR4AC10g74Xo6w==',
};

const repository = path.join(import.meta.dirname, '../..');
/** A copy of the sources, which finds that onnxruntime-node beside it, and all else in the repository's node_modules. */
const checkout = path.join(repository, '.cuda-test');
const libraries = path.join(checkout, 'libraries');
/** The programs as JavaScript: they are started some thirty times, and tsx would take a second of each. */
const programs = path.join(checkout, 'dist');

const missing = await prepare();
if (missing !== undefined) console.warn(`skipping the tests of cuda: ${missing}`);
/** Whether cases can be run. */
export const hasFakeCuda = missing === undefined;

/** What is missing; undefined where all is ready. */
async function prepare(): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'onnxruntime has cuda for Linux x64 here';
  try {
    await run('gcc', ['--version']);
  } catch {
    return 'there is no gcc (apt-get install gcc libc6-dev)';
  }
  const cache = path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'iso-diffusion');
  const installed = path.join(cache, `onnxruntime-cuda-${VERSION}`);
  if (!existsSync(installed)) {
    const problem = await install(cache, installed);
    if (problem !== undefined) return problem;
  }
  await rm(checkout, { recursive: true, force: true });
  await mkdir(libraries, { recursive: true });
  for (const part of ['src', 'test/cuda', 'package.json'])
    await cp(path.join(repository, part), path.join(checkout, part), { recursive: true });
  await symlink(path.join(installed, 'node_modules'), path.join(checkout, 'node_modules'));
  await compilePrograms();
  await buildLibraries();
  return undefined;
}

/** Downloads into a folder of another name, so that nothing half done is ever taken. Returns why it cannot. */
async function install(cache: string, installed: string): Promise<string | undefined> {
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(path.join(cache, 'onnxruntime-cuda-'));
  try {
    let packed: string;
    try {
      packed = (await run('npm', ['pack', '--json', '--silent', ...Object.keys(PACKAGES)], { cwd: folder })).stdout;
    } catch (cause) {
      return `npm has no onnxruntime for cuda (290 MB): ${errorText(cause)}`;
    }
    for (const { id, filename } of JSON.parse(packed) as { id: keyof typeof PACKAGES; filename: string }[])
      await unpack(folder, id, path.join(folder, filename));
    await rename(folder, installed).catch((error: unknown) => {
      // Another run may have been faster.
      if (!existsSync(installed)) throw error;
    });
    return undefined;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Unpacks what Linux needs of an archive. */
async function unpack(folder: string, id: keyof typeof PACKAGES, archive: string): Promise<void> {
  const hash = createHash('sha512');
  await pipeline(createReadStream(archive), hash);
  const found = `sha512-${hash.digest('base64')}`;
  if (found !== PACKAGES[id]) throw new Error(`${id} has the checksum ${found}, not ${PACKAGES[id]}`);
  const binaries = 'bin/napi-v6/linux/x64';
  const [name = ''] = id.split('@');
  const isProvider = name.startsWith('com.');
  const target = path.join(folder, 'node_modules', isProvider ? `onnxruntime-node/${binaries}` : name);
  await mkdir(target, { recursive: true });
  const members = isProvider
    ? [
        '--strip-components=4',
        ...['cuda', 'shared'].map((part) => `package/Plugins/Linux/x64/libonnxruntime_providers_${part}.so`),
      ]
    : [
        '--strip-components=1',
        'package/package.json',
        'package/dist',
        ...(name === 'onnxruntime-node' ? [`package/${binaries}`] : []),
      ];
  await run('tar', ['xzf', archive, '-C', target, ...members]);
  await rm(archive);
}

async function compilePrograms(): Promise<void> {
  await build({
    entryPoints: {
      program: path.join(checkout, 'test/cuda/program.ts'),
      rank: path.join(checkout, 'test/cuda/rank.ts'),
      // From a bundle the package starts the threads of its build.
      'pipelines/noise-worker': path.join(checkout, 'src/pipelines/noise-worker.ts'),
    },
    outdir: programs,
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    logLevel: 'error',
  });
}

async function buildLibraries(): Promise<void> {
  const sources = path.join(import.meta.dirname, 'libraries');
  const runtime = 'libcudart.so.13';
  const linked = ['-L', libraries, `-l:${runtime}`];
  const compile = (library: string, source: string, ...others: string[]) => {
    // As in NVIDIA's, the version of a function is the name of its library.
    const output = ['-shared', '-fPIC', '-o', path.join(libraries, library), `-Wl,-soname,${library},--default-symver`];
    return run('gcc', ['-O1', '-Wall', '-Werror', ...output, source, ...others]);
  };
  await compile(runtime, path.join(sources, 'cudart.c'), '-lpthread');
  for (const library of ['libcublas.so.13', 'libcublasLt.so.13'])
    await compile(library, path.join(sources, 'cublas.c'), ...linked);
  await compile('libcudnn.so.9', path.join(sources, 'cudnn.c'), ...linked);
  await compile('libcuda.so.1', path.join(sources, 'cuda.c'), ...linked);
  // The provider asks for it by name, and for nothing in it.
  await compile('libcurand.so.10', '/dev/null');
}

export interface CaseResult extends Figures {
  /** Nodes of sessions on cuda that onnxruntime placed elsewhere: '[CPUExecutionProvider]. Number of nodes: 3'. */
  readonly misplaced: readonly string[];
  /** What onnxruntime says of nodes that copy between host and device, for each graph. */
  readonly copyNodes: readonly string[];
}

/** Runs a case in a process of its own. @throws {Error} with the end of its stderr when it fails. */
export async function runCase(name: CaseName): Promise<CaseResult> {
  const { stdout, placed, copyNodes } = await runProgram(name, (folder) => [
    process.execPath,
    path.join(programs, 'program.js'),
    name,
    folder,
  ]);
  return { ...(JSON.parse(stdout) as Figures), misplaced: misplaced(placed), copyNodes };
}

/** Whether there is an mpirun of Open MPI. */
export const hasMpi = await run('mpirun', ['--version']).then(
  ({ stdout }) => stdout.includes('Open MPI'),
  () => false,
);

export interface RanksResult {
  /** Of all ranks, by their numbers. */
  readonly ranks: readonly RankReport[];
  readonly misplaced: readonly string[];
  readonly copyNodes: readonly string[];
}

/**
 * Runs two ranks of mpirun.
 *
 * @param args see `rank.ts`. @param env of the fake: how many devices there are, and whether they give values.
 * @param visible `CUDA_VISIBLE_DEVICES` of each rank; default: that of `env`.
 * @throws {Error} with the end of their stderr when they fail.
 */
export async function runRanks(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  visible?: readonly string[],
): Promise<RanksResult> {
  const node = [process.execPath, path.join(programs, 'rank.js'), ...args];
  // mpirun takes ranks with environments of their own as several programs.
  const ofRanks = visible?.map((ids) => ['-n', '1', '-x', `CUDA_VISIBLE_DEVICES=${ids}`, ...node]);
  const [first = ['-n', '2', ...node], ...others] = ofRanks ?? [];
  const mpirun = [
    'mpirun',
    '--oversubscribe',
    '--allow-run-as-root',
    ...first,
    ...others.flatMap((one) => [':', ...one]),
  ];
  const { stdout, placed, copyNodes } = await runProgram(`ranks ${args.join(' ')}`, () => mpirun, env);
  const reports = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RankReport);
  return { ranks: reports.sort((a, b) => a.rank - b.rank), misplaced: misplaced(placed), copyNodes };
}

/** What the nodes of a graph were placed on, other than cuda. */
function misplaced(placed: readonly string[]): string[] {
  return placed.filter((list) => !list.startsWith('[CUDAExecutionProvider]'));
}

/** Runs a command with the fake libraries, and reads the log of its sessions on cuda. @param command for a folder of its own. */
async function runProgram(
  name: string,
  command: (folder: string) => readonly string[],
  env: Readonly<Record<string, string>> = {},
) {
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-cuda-'));
  try {
    // Files, because onnxruntime loses what it logs into a pipe that is full.
    const [printed, log] = [path.join(folder, 'printed'), path.join(folder, 'log')];
    const [stdout, stderr] = [await open(printed, 'w'), await open(log, 'w')];
    const [program = '', ...args] = command(folder);
    const child = spawn(program, args, {
      cwd: repository,
      env: { ...process.env, LD_LIBRARY_PATH: libraries, FAKE_CUDA_COUNTERS: folder, ...env },
      stdio: ['ignore', stdout.fd, stderr.fd],
    });
    const [code] = (await once(child, 'close')) as [number | null];
    for (const file of [stdout, stderr]) await file.close();
    const lines = (await readFile(log, 'utf8')).split('\n');
    if (code !== 0) {
      const said = lines.filter((line) => !/\[[VIW]:onnxruntime/.test(line));
      throw new Error(`the case '${name}' ended with ${code}: ${said.slice(-30).join('\n')}`);
    }
    const placed = lines.flatMap((line) => line.match(/(?<=placed on )\[\w+\]\. Number of nodes: \d+/) ?? []);
    if (placed.length === 0) throw new Error(`the log of the case '${name}' does not say where nodes are placed`);
    const copyNodes = lines.flatMap((line) => line.match(/\d+ Memcpy nodes are added to the graph \S+/) ?? []);
    return { stdout: await readFile(printed, 'utf8'), placed, copyNodes };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
