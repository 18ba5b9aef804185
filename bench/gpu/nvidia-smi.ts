import { execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const INTERVAL_MS = 100;

/** The card and its driver, such as 'NVIDIA H200, driver 580.159.04'; undefined where there is no nvidia-smi. */
export function cardName(): string | undefined {
  try {
    const [name, driver] = query('name,driver_version').split(', ');
    return `${name}, driver ${driver}`;
  } catch {
    return undefined;
  }
}

/**
 * Runs `work` and samples the memory of the first card ten times a second meanwhile. What was in use before is taken off, so
 * nothing else may run on the card.
 *
 * @returns the result of `work`, and the peak in bytes; undefined where there is no nvidia-smi.
 */
export async function withPeakMemory<Result>(work: () => Promise<Result>): Promise<[Result, number | undefined]> {
  if (cardName() === undefined) return [await work(), undefined];
  const before = Number(query('memory.used'));
  let peak = before;
  const args = ['--id=0', '--query-gpu=memory.used', '--format=csv,noheader,nounits', `--loop-ms=${INTERVAL_MS}`];
  const sampler = spawn('nvidia-smi', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  createInterface({ input: sampler.stdout }).on('line', (line) => {
    peak = Math.max(peak, Number(line));
  });
  try {
    return [await work(), (peak - before) * 2 ** 20];
  } finally {
    sampler.kill();
  }
}

function query(fields: string): string {
  const args = ['--id=0', `--query-gpu=${fields}`, '--format=csv,noheader,nounits'];
  return execFileSync('nvidia-smi', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
}
