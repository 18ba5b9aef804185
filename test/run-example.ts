import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { outputOf } from './child-output.ts';

const tsx = fileURLToPath(import.meta.resolve('tsx'));
// Elsewhere than in the root of the repository, tsx has to be told where `iso-diffusion` is this package.
const env = { ...process.env, TSX_TSCONFIG_PATH: fileURLToPath(new URL('../tsconfig.json', import.meta.url)) };

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
