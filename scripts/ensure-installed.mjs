// Runs `npm ci` when node_modules is missing or older than package-lock.json, so that every npm script works on a
// fresh clone. npm writes node_modules/.package-lock.json at the end of each install. The install script of
// onnxruntime-node, which would fetch CUDA, is skipped: by allowScripts of package.json in npm 11, by the variable in
// older ones. A node_modules that is a link belongs to another checkout, and is left alone.
import { spawnSync } from 'node:child_process';
import { lstatSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('../', import.meta.url);
const changedAt = (file) => statSync(new URL(file, root), { throwIfNoEntry: false })?.mtimeMs ?? 0;

const isLink = lstatSync(new URL('node_modules', root), { throwIfNoEntry: false })?.isSymbolicLink() ?? false;

if (!isLink && changedAt('node_modules/.package-lock.json') < changedAt('package-lock.json')) {
  console.error('Installing the dependencies (npm ci) ...');
  const { status } = spawnSync('npm', ['ci'], {
    cwd: fileURLToPath(root),
    env: { ONNXRUNTIME_NODE_INSTALL: 'skip', ...process.env },
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32',
  });
  process.exit(status ?? 1);
}
