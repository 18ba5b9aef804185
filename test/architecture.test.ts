import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

// `npm run lint` holds src/ to the rules of .dependency-cruiser.mjs. Here small trees break them, one rule each.
const config = resolve('.dependency-cruiser.mjs');
const depcruise = resolve('node_modules/.bin/depcruise');

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'iso-architecture-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** The rules that a tree breaks, as `rule: from -> to`. */
function violations(files: Readonly<Record<string, string>>): string[] {
  for (const [name, text] of Object.entries(files)) {
    const path = join(root, 'src', name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  const { stdout, stderr } = spawnSync(depcruise, ['src', '--config', config, '--output-type', 'json'], {
    cwd: root,
    encoding: 'utf8',
  });
  if (stderr !== '') throw new Error(stderr);
  const { summary } = JSON.parse(stdout) as {
    summary: { violations: { rule: { name: string }; from: string; to: string }[] };
  };
  return summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`).sort();
}

describe('the architecture check', () => {
  it('accepts imports of lower rooms', () => {
    expect(
      violations({
        'errors.ts': 'export class GraphError extends Error {}',
        'graph/graph.ts': "import { GraphError } from '../errors.ts';\nexport const make = () => new GraphError();",
        'nn/layers.ts': "import { make } from '../graph/graph.ts';\nexport const layer = make;",
      }),
    ).toEqual([]);
  });

  it.each([
    ['a value', "import { train } from '../trainers/trainer.ts';\nexport const again = train;"],
    ['a type', "import type { train } from '../trainers/trainer.ts';\nexport type Again = typeof train;"],
    ['a type in a re-export', "export type { train } from '../trainers/trainer.ts';"],
    ['a module at run time', "export const again = () => import('../trainers/trainer.ts');"],
  ])('refuses an edge upwards: %s', (_what, text) => {
    expect(violations({ 'trainers/trainer.ts': 'export const train = 1;', 'graph/graph.ts': text })).toEqual([
      'edges-of-graph: src/graph/graph.ts -> src/trainers/trainer.ts',
    ]);
  });

  it('is not evaded by a type imported in place, which dependency-cruiser does not see', () => {
    const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((name) => /\.c?ts$/.test(name));
    const evading = files.filter((name) => /(?<!await )\bimport\('\.+\//.test(readFileSync(join('src', name), 'utf8')));
    expect(evading).toEqual([]);
  });

  it('refuses a cycle of types inside a room', () => {
    expect(
      violations({
        'graph/a.ts': "import type { B } from './b.ts';\nexport interface A { readonly b: B }",
        'graph/b.ts': "import type { A } from './a.ts';\nexport interface B { readonly a: A }",
      }),
    ).toEqual([expect.stringMatching(/^cycle: src\/graph\/[ab].ts -> src\/graph\/[ab].ts$/)]);
  });

  it('refuses a room that has no line in the list', () => {
    expect(
      violations({ 'drawer/any.ts': "export { x } from './x.ts';", 'drawer/x.ts': 'export const x = 1;' }),
    ).toEqual([expect.stringMatching(/^room-without-rule: src\/drawer/)]);
  });

  it('refuses a module of Node outside of what a browser does not get', () => {
    const text = "import { readFile } from 'node:fs/promises';\nexport const read = readFile;";
    expect(violations({ 'losses/read.ts': text, 'platform/node/read.ts': text, 'cli/read.ts': text })).toEqual([
      'modules-of-node: src/losses/read.ts -> fs/promises',
    ]);
  });

  it('refuses an import of the public door from inside', () => {
    expect(
      violations({ 'index.ts': 'export const x = 1;', 'cli/main.ts': "export { x } from '../index.ts';" }),
    ).toContain('index-is-the-door: src/cli/main.ts -> src/index.ts');
  });
});
