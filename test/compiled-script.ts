import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { inject } from 'vitest';

const sources = fileURLToPath(new URL('../src/', import.meta.url));

/**
 * A script of the tests as JavaScript that imports the compiled package, for tests that start it many times: it begins in
 * a third of the time.
 *
 * @returns its path, for `node`.
 */
export async function compiledScript(script: URL): Promise<string> {
  const folder = inject('build');
  const outfile = path.join(folder, 'scripts', path.basename(script.pathname).replace(/\.ts$/, '.mjs'));
  await build({
    entryPoints: [fileURLToPath(script)],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    logLevel: 'error',
    plugins: [
      {
        name: 'compiled-package',
        setup: ({ onResolve }) =>
          onResolve({ filter: /\/src\/.*\.ts$/ }, ({ path: name, resolveDir }) => {
            const file = path.relative(sources, path.resolve(resolveDir, name)).replace(/\.ts$/, '.js');
            return { path: path.join(folder, 'dist', file), external: true };
          }),
      },
    ],
  });
  return outfile;
}
