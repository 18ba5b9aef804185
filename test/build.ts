import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';
import { buildNode } from '../scripts/build-node.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

declare module 'vitest' {
  export interface ProvidedContext {
    /** The folder of the compiled package. */
    build: string;
  }
}

/**
 * Compiles the package once, for the tests that run it in another process: compiled it starts in a third of the time that
 * its sources take, of which there are some hundred starts. The packed projects take it too. `npm run typecheck` has found
 * what is wrong in types. Where the variable ISO_DIFFUSION_BUILD names a `dist` of `npm run build`, that is taken.
 */
export default async function compilePackage({ provide, vite }: TestProject): Promise<() => void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'iso-build-'));
  // The tests neither find what lies in the user's cache nor write there. Those of `npm run test:slow` need its networks.
  if (vite.config.mode !== 'slow') process.env.XDG_CACHE_HOME = path.join(folder, 'cache');
  const dist = path.join(folder, 'dist');
  const { ISO_DIFFUSION_BUILD: built } = process.env;
  if (built) {
    // A copy, because tests write there. They have no use for the parts for browsers, which `npm run build` adds.
    const forBrowsers = ['site', 'web'].map((name) => path.join(built, name));
    cpSync(built, dist, { recursive: true, filter: (file) => !forBrowsers.includes(file) });
  } else {
    const tsc = path.join(root, 'node_modules/.bin/tsc');
    execFileSync(tsc, ['-p', 'tsconfig.build.json', '--outDir', dist, '--noCheck'], { cwd: root });
    await buildNode(dist);
  }
  for (const name of ['bin', 'package.json'])
    cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
  for (const name of ['assets', 'node_modules'])
    symlinkSync(path.join(root, name), path.join(folder, name), 'junction');
  // What tsx resolves `iso-diffusion` by.
  const paths = {
    'iso-diffusion': ['./dist/index.js'],
    'iso-diffusion/*': ['./dist/*.js'],
  };
  writeFileSync(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: { paths } }));
  provide('build', folder);
  return () => rmSync(folder, { recursive: true, force: true });
}
