// Runs `npm ci` when node_modules is missing or older than package-lock.json, so that every npm script works on a
// fresh clone. npm writes node_modules/.package-lock.json at the end of each install. The install script of
// onnxruntime-node, which would fetch CUDA, is skipped: by allowScripts of package.json in npm 11, by the variable in
// older ones.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('../', import.meta.url);
const changedAt = (file) => statSync(new URL(file, root), { throwIfNoEntry: false })?.mtimeMs ?? 0;

if (changedAt('node_modules/.package-lock.json') < changedAt('package-lock.json')) {
  console.error('Installing the dependencies (npm ci) ...');
  const { status } = spawnSync('npm', ['ci'], {
    cwd: fileURLToPath(root),
    env: { ONNXRUNTIME_NODE_INSTALL: 'skip', ...process.env },
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32',
  });
  process.exit(status ?? 1);
}
