import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { inject, vi } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { type ChildOutput, outputOf } from '../child-output.ts';

const script = path.join(inject('build'), 'bin/iso-diffusion.js');

/** Runs the CLI in `cwd`; `interruptWhen` sends Ctrl-C as soon as it is true. */
export function runCli(
  args: readonly string[],
  cwd: string,
  { interruptWhen, env }: { interruptWhen?: (() => boolean) | undefined; env?: Record<string, string> } = {},
): Promise<ChildOutput> {
  const child = spawn(process.execPath, [script, ...args], { cwd, env: { ...process.env, ...env } });
  const timer = setInterval(() => {
    if (!interruptWhen?.()) return;
    clearInterval(timer);
    child.kill('SIGINT');
  }, 20);
  return outputOf(child).finally(() => clearInterval(timer));
}

/**
 * Runs the CLI and sends it Ctrl-C once metrics.jsonl in the folder `output` has a line. Where this process had no time until
 * the run was over, it begins again.
 */
export async function runInterrupted(args: readonly string[], cwd: string, output: string): Promise<ChildOutput> {
  const log = path.join(cwd, output, 'metrics.jsonl');
  const interruptWhen = () => existsSync(log) && readFileSync(log, 'utf8').includes('\n');
  for (let attempt = 1; ; attempt++) {
    const ended = await runCli([...args, '--output', output], cwd, { interruptWhen });
    if (ended.code !== 0 || attempt === 5) return ended;
    rmSync(path.dirname(log), { recursive: true });
  }
}

/** Runs the CLI in this process, which must be in the right folder: for commands that need no process of their own. */
export async function runHere(args: readonly string[]): Promise<ChildOutput> {
  let stdout = '';
  let stderr = '';
  const spies = [
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      stderr += String(text);
      return true;
    }),
    // The help.
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      stdout += String(text);
      return true;
    }),
    vi.spyOn(console, 'log').mockImplementation((...texts) => {
      stdout += `${texts.join(' ')}\n`;
    }),
  ];
  try {
    return { code: await main(args), stdout, stderr };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
