import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'vitepress';
import { writeReference } from './api.ts';
import { checkExternal, checkLinks, checkSearch } from './check.ts';

// Builds the site into website/dist and checks it: `npm run docs`, see README.md beside this file.

const { values: options } = parseArgs({
  options: { base: { type: 'string', default: '/' }, external: { type: 'boolean', default: false } },
});

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
await rm('website/api', { recursive: true, force: true });
await writeReference('website/api');
const errors = [...readFileSync('docs/errors.md', 'utf8').matchAll(/^### (\w+)$/gm)].map(([, name = '']) => name);

// VitePress looks for vue in the working folder.
process.chdir('website');
await build('.', { base: options.base });

const { failures, pages, external } = checkLinks('dist', options.base);
failures.push(...(await checkSearch('dist', errors)));
if (options.external) failures.push(...(await checkExternal(external)));
else console.log(external.join('\n'));
console.log(
  `${pages} pages, ${errors.length} classes of errors, ${external.length} links to other sites${options.external ? '' : ', which --external checks'}`,
);
if (failures.length > 0) {
  console.error(failures.join('\n'));
  process.exitCode = 1;
}
