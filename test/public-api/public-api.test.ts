import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { optionMembers } from './hover.ts';
import { compile, makePackedProject } from './packed-project.ts';

let project: string;
beforeAll(() => {
  project = makePackedProject();
  readmeSnippets().forEach((text, index) => {
    writeFileSync(path.join(project, 'src', `readme-${index}.ts`), text);
  });
}, 120_000);
afterAll(() => rmSync(project, { recursive: true, force: true }));

function readmeSnippets(): string[] {
  const readme = readFileSync('README.md', 'utf8');
  return [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, text = '']) => text);
}

describe('the packed package', () => {
  it('compiles in a strict project, with the snippets of the README', () => {
    expect(readmeSnippets().length).toBeGreaterThan(1);
    expect(compile(project)).toEqual([]);
  });

  it('says of every member of its options what it is, when an editor points at it', () => {
    const members = optionMembers(project, [
      'dist/index.d.ts',
      'dist/losses/index.d.ts',
      'dist/losses/tfjs.d.ts',
    ]);
    expect(members.length).toBeGreaterThan(200);
    expect(members.filter(({ documentation }) => documentation === '').map(({ name }) => name)).toEqual([]);
  });

  it('completes devices and number formats', () => {
    const members = optionMembers(project, ['dist/index.d.ts']);
    const choices = members.filter(({ name }) => /\.(device|dtype)$/.test(name));
    expect(choices.length).toBeGreaterThan(5);
    for (const { name, type } of choices)
      expect(`${name}: ${type}`).toMatch(/: (\w+|"[\w-]+"( \| ("[\w-]+"|null))+)$/);
  });
});
