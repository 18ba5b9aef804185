import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, inject } from 'vitest';
import { runExample } from './run-example.ts';

/* The code blocks of README and of guides, run with smaller settings. */

const root = fileURLToPath(new URL('..', import.meta.url));

/** What is replaced by what. */
export type Change = readonly [from: string | RegExp, to: string];

/** The blocks of a language in a file of the repository. */
export function blocks(name: string, language: string): string[] {
  const text = readFileSync(path.join(root, name), 'utf8');
  return [...text.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map(([, block = '']) => block);
}

/** The arguments of each command of a page, with `changes` made. A change that nothing needs is an error. */
export function commandsOf(name: string, changes: readonly Change[]): string[][] {
  const short = changed(blocks(name, 'bash').join(''), changes);
  return [...short.matchAll(/^npx iso-diffusion (.*)$/gm)].map(([, args = '']) => args.split(' '));
}

/** Runs the TypeScript of a page in `folder`, one block after another, with `changes` made to all of it. */
export async function runBlocks(name: string, folder: string, changes: readonly Change[]): Promise<void> {
  const dist = path.join(inject('build'), 'dist');
  const between = '\n// next block\n';
  const text = changed(blocks(name, 'ts').join(between), changes)
    .replace(/'iso-diffusion\/(\w+)'/g, (_, entry: string) => `'${path.join(dist, `${entry}.js`)}'`)
    .replaceAll("'iso-diffusion'", `'${path.join(dist, 'index.js')}'`);
  for (const [i, block] of text.split(between).entries()) {
    const file = path.join(folder, `${path.basename(name, '.md')}-${i}.mts`);
    writeFileSync(file, block);
    await runExample(file, [], folder);
  }
}

function changed(text: string, changes: readonly Change[]): string {
  return changes.reduce((current, [from, to]) => {
    expect(current).toMatch(from);
    return current.replaceAll(from, to);
  }, text);
}
