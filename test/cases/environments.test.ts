import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { makePackedProject, succeed } from '../public-api/packed-project.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const tool = (name: string) => path.join(root, 'node_modules/.bin', name);

let project: string;
beforeAll(() => {
  project = makePackedProject(inject('build'));
  cpSync(path.join(root, 'test/cases/files/environments'), project, { recursive: true });
  symlinkSync(path.join(root, 'node_modules/vitest'), path.join(project, 'node_modules/vitest'), 'junction');
  writeFileSync(path.join(project, 'outside.json'), succeed('node', ['main.js', 'outside'], project));
}, 120_000);
afterAll(() => rmSync(project, { recursive: true, force: true }));

describe('a vm pool of Vitest, whose typed arrays are those of another realm as in Jest', () => {
  it('trains and draws the same, and an older Node.js is told what is wrong', () => {
    const run = (file: string) =>
      succeed(tool('vitest'), ['run', '--pool=vmThreads', '--testTimeout=60000', file], project);
    expect(run('vm.spec.js')).toMatch(/3 passed/);
    expect(run('old-node.spec.js')).toMatch(/1 passed/);
  }, 120_000);
});

describe('one file made by esbuild', () => {
  it('finds workers and assets in node_modules; without the package there the error says how to ship them', () => {
    const page = readFileSync(path.join(root, 'docs/environments.md'), 'utf8');
    const [, command = ''] = /npx (esbuild program\.js[\s\S]*?)```/.exec(page) ?? [];
    const bundle = command.replace('program.js', 'main.js').replace('esbuild', tool('esbuild'));
    succeed('sh', ['-c', bundle], project);
    const outside: unknown = JSON.parse(readFileSync(path.join(project, 'outside.json'), 'utf8'));
    expect(JSON.parse(succeed('node', ['out/program.js', 'bundled'], project))).toEqual(outside);

    const alone = path.join(project, 'alone');
    for (const name of ['onnxruntime-node', 'sharp']) {
      mkdirSync(path.join(alone, 'node_modules'), { recursive: true });
      symlinkSync(path.join(root, 'node_modules', name), path.join(alone, 'node_modules', name), 'junction');
    }
    rmSync(path.join(project, 'node_modules/iso-diffusion'), { recursive: true });
    cpSync(path.join(project, 'out/program.js'), path.join(alone, 'program.mjs'));
    const { status, stderr } = spawnSync('node', ['program.mjs', 'alone'], { cwd: alone, encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toMatch(/BundleError: .*separated the code .*install it there with npm.*--external:iso-diffusion/);
  }, 120_000);
});

describe('the tarball', () => {
  const files = () => readdirSync(path.join(project, 'package'), { recursive: true, encoding: 'utf8' });
  const text = (name: string) => readFileSync(path.join(project, 'package', name), 'utf8');

  it('holds docs and examples that import the package by its name', () => {
    const examples = files().filter((name) => /^examples\/.*\.ts$/.test(name));
    expect(examples.length).toBeGreaterThan(5);
    for (const name of examples) {
      expect(text(name)).toMatch(/from 'iso-diffusion'/);
      expect(text(name)).not.toMatch(/from '\.\./);
    }
    const links = [...text('README.md').matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, link = '']) => link);
    expect(links.length).toBeGreaterThan(5);
    for (const link of links) expect(existsSync(path.join(project, 'package', link)), link).toBe(true);
  });

  it('holds no source maps without sources', () => {
    const maps = files().filter((name) => name.endsWith('.map'));
    expect(maps.length).toBeGreaterThan(20);
    for (const name of maps) {
      const { sources, sourcesContent } = JSON.parse(text(name)) as Record<string, string[]>;
      expect(sourcesContent, name).toHaveLength(sources?.length ?? 0);
    }
    const scripts = files().filter((name) => /^dist\/.*\.js$/.test(name));
    expect(scripts.length).toBeGreaterThan(100);
    const mapped = scripts.filter((name) => text(name).includes('sourceMappingURL'));
    expect(mapped.map((name) => `${name}.map`).sort()).toEqual(maps.sort());
  });

  it('says where the package comes from', () => {
    const { repository, homepage, bugs } = JSON.parse(text('package.json')) as Record<string, unknown>;
    expect({ repository, homepage, bugs }).toEqual({
      repository: { type: 'git', url: expect.stringMatching(/^git\+https:.*\.git$/) },
      homepage: expect.stringMatching(/^https:/),
      bugs: expect.stringMatching(/^https:/),
    });
  });
});

it('npm has nothing to say about .npmrc', () => {
  const { status, stderr } = spawnSync('npm', ['pkg', 'get', 'name'], { cwd: root, encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});
