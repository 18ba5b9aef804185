import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { vi } from 'vitest';
import { main } from '../../src/cli/main.ts';

const script = fileURLToPath(new URL('../../bin/iso-diffusion.js', import.meta.url));

export interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the CLI in `cwd`; `interruptWhen` sends Ctrl-C as soon as it is true. */
export function runCli(
  args: readonly string[],
  cwd: string,
  { interruptWhen, env }: { interruptWhen?: () => boolean; env?: Record<string, string> } = {},
): Promise<Result> {
  const child = spawn(process.execPath, [script, ...args], { cwd, env: { ...process.env, ...env } });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const timer = setInterval(() => {
    if (!interruptWhen?.()) return;
    clearInterval(timer);
    child.kill('SIGINT');
  }, 20);
  return new Promise((resolve) => {
    child.on('close', (code) => {
      clearInterval(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

/** Runs the CLI in this process, which must be in the right folder: for commands that need no process of their own. */
export async function runHere(args: readonly string[]): Promise<Result> {
  const result: Result = { code: null, stdout: '', stderr: '' };
  const spies = [
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      result.stderr += String(text);
      return true;
    }),
    vi.spyOn(console, 'log').mockImplementation((...texts) => {
      result.stdout += `${texts.join(' ')}\n`;
    }),
  ];
  try {
    result.code = await main(args);
    return result;
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
