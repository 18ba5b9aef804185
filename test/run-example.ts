import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const tsx = fileURLToPath(import.meta.resolve('tsx'));

/** Runs a TypeScript file as a user does, in `cwd`, and returns what it printed. Rejects when it fails. */
export function runExample(file: string, args: readonly string[], cwd: string): Promise<string> {
  const child = spawn(process.execPath, ['--import', tsx, file, ...args], { cwd });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(stdout);
      else reject(new Error(`${file} exited with ${code}:\n${stderr}`));
    });
  });
}
