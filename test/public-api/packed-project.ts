import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const tsc = path.join(root, 'node_modules/.bin/tsc');

/**
 * A project as a user has one: outside the repository, with the packed and unpacked tarball of this package as
 * node_modules/iso-diffusion, the package's dependencies beside it, and the sources of test/public-api/project.
 *
 * @param build the compiled package of test/build.ts: `dist` may hold files of an older one.
 * @returns the project's folder.
 */
export function makePackedProject(build: string): string {
  const project = mkdtempSync(path.join(tmpdir(), 'iso-public-api-'));
  const staged = path.join(project, 'staged');
  const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as Manifest;
  cpSync(path.join(build, 'dist'), path.join(staged, 'dist'), { recursive: true });
  for (const name of ['package.json', ...manifest.files.filter((name) => name !== 'dist')])
    cpSync(path.join(root, name), path.join(staged, name), { recursive: true });
  // Not in the home folder, which need not be writable; and npm asks nobody for a newer version of itself.
  const cache = ['--cache', path.join(project, 'npm-cache'), '--no-update-notifier'];
  succeed('npm', ['pack', '--ignore-scripts', '--pack-destination', project, ...cache], staged);
  const [tarball = ''] = readdirSync(project).filter((name) => name.endsWith('.tgz'));
  succeed('tar', ['-xzf', tarball], project);

  const modules = path.join(project, 'node_modules');
  cpSync(path.join(project, 'package'), path.join(modules, 'iso-diffusion'), { recursive: true });
  const beside = { ...manifest.dependencies, ...manifest.peerDependencies, '@types/node': '' };
  for (const name of Object.keys(beside)) {
    mkdirSync(path.dirname(path.join(modules, name)), { recursive: true });
    symlinkSync(path.join(root, 'node_modules', name), path.join(modules, name), 'junction');
  }
  cpSync(path.join(root, 'test/public-api/project'), project, { recursive: true });
  return project;
}

interface Manifest {
  readonly files: readonly string[];
  readonly dependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
}

/**
 * Compiles the project with its own tsconfig.json, which checks declarations of libraries too.
 *
 * @returns the errors in the project and in the declarations of this package. The declarations of transformers.js,
 * onnxruntime-common and vega do not pass on their own (they name the DOM's types and each other's files without
 * extension); what is wrong in those is not counted.
 */
export function compile(project: string): string[] {
  const { stdout } = spawnSync(tsc, ['-p', project, '--pretty', 'false'], { cwd: project, encoding: 'utf8' });
  const lines = stdout.split('\n').filter((line) => /^\S.*error TS\d+/.test(line));
  return lines.filter((line) => !/^\S*node_modules\/(?!iso-diffusion\/)/.test(line));
}

/** What a command prints to stdout. Fails with all its output when it fails. */
export function succeed(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error ?? ''}\n${stdout}\n${stderr}`);
  return stdout;
}
