import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';
import { outputOf } from './child-output.ts';

const tsx = fileURLToPath(import.meta.resolve('tsx'));
// tsx has to be told where `iso-diffusion` is this package.
const env = { ...process.env, TSX_TSCONFIG_PATH: path.join(inject('build'), 'tsconfig.json') };

/**
 * Runs a TypeScript file as a user does, in `cwd`, and returns what it printed. Rejects when it fails.
 *
 * @param variables more variables of its environment.
 */
export async function runExample(
  file: string,
  args: readonly string[],
  cwd: string,
  variables: NodeJS.ProcessEnv = {},
): Promise<string> {
  const child = spawn(process.execPath, ['--import', tsx, file, ...args], { cwd, env: { ...env, ...variables } });
  const { code, stdout, stderr } = await outputOf(child);
  if (code !== 0) throw new Error(`${file} exited with ${code}:\n${stderr}`);
  return stdout;
}
