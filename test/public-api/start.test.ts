import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, inject, it } from 'vitest';

/** Prints what each file of the build imports, when it does. */
const hook = `import fs from 'node:fs';
export async function resolve(specifier, context, next) {
  if (/^(?!.*node_modules).*\\/dist\\//.test(context.parentURL ?? '')) fs.writeSync(2, specifier + '\\n');
  return next(specifier, context);
}`;
const url = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`;
const registers = `import { register } from 'node:module'; register(${JSON.stringify(url(hook))});`;

/** What a program makes the build import: packages by their names, and how many files of its own. */
function importedBy(program: string): { packages: string[]; files: number } {
  const code = program.replaceAll('dist/', `${path.join(inject('build'), 'dist')}/`);
  const args = ['--import', url(registers), '--input-type=module', '--eval', code];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  const imported = [...new Set(stderr.trim().split('\n'))].filter((name) => !name.startsWith('node:'));
  const files = new Set(imported.filter((name) => name.startsWith('.')).map((name) => path.basename(name)));
  return { packages: imported.filter((name) => !name.startsWith('.')).sort(), files: files.size };
}

it('the package loads transformers.js and onnxruntime, and other libraries when a call needs them', () => {
  const { packages, files } = importedBy("import 'dist/index.js'");
  expect(packages).toEqual(['@huggingface/transformers', 'onnxruntime-node']);
  expect(files).toBeLessThan(8);
  const zip = importedBy("import { zipFolder } from 'dist/index.js'; await zipFolder('test/pages')");
  expect(zip.packages).toEqual(['@huggingface/transformers', 'fflate', 'onnxruntime-node']);
});

it('the help of the command line loads its parser alone, and commands none of transformers.js', () => {
  const run = (...args: string[]) =>
    importedBy(`import { main } from 'dist/cli/main.js'; await main(${JSON.stringify(args)})`);
  expect(run('--help')).toEqual({ packages: ['commander'], files: 2 });
  expect(run('train', '--help').packages).toEqual(['commander', 'onnxruntime-node']);
});

it('functions and classes keep their names in chunks that have several of one name', () => {
  importedBy(`import * as all from 'dist/index.js';
    const renamed = Object.values(all).filter(({ name }) => /[$]/.test(name));
    if (renamed.length > 0) throw new Error(String(renamed.map(({ name }) => name)));`);
});

it('threads and processes run the chunks too, and so know what modules of the user register', () => {
  const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const scripts = files.flatMap((file) => {
    const text = readFileSync(path.join('src', file), 'utf8');
    return [...text.matchAll(/(?:packageScript|startScript)\('(.*)\.ts'/g)].map(([, script]) => script);
  });
  expect(scripts).toHaveLength(4);
  for (const script of scripts) {
    const built = readFileSync(path.join(inject('build'), `dist/${script}.js`), 'utf8');
    expect(built, script).toContain('/chunks/iso-diffusion-');
  }
});

it('graphs and losses load none', () => {
  expect(importedBy("import 'dist/losses.js'; import 'dist/graph.js'").packages).toEqual([]);
});

it('the stack of an error names the sources where DEBUG is set', () => {
  const script = path.join(inject('build'), 'bin/iso-diffusion.js');
  const args = [script, 'generate', '--model', './missing'];
  const { stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', env: { ...process.env, DEBUG: '1' } });
  expect(stderr).toMatch(/missing.*\/src\/cli\/options\/saved-model\.ts:\d+/s);
});
