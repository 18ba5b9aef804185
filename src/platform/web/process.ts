import type { ProcessIdentity } from '../node/process.ts';

export type { ProcessIdentity };

/** Every page and every worker is a process of its own. All of one browser count as those of one machine. */
const own: ProcessIdentity = {
  host: 'browser',
  machine: 'b'.padEnd(12, '0'),
  pid: 1 + Math.floor(Math.random() * 2 ** 40),
  started: null,
};

export function thisProcess(): ProcessIdentity {
  return own;
}

/** Other pages cannot be asked. Files that two of them write at once are kept apart by the lock of their folder. */
export function isRunning({ pid }: Pick<ProcessIdentity, 'pid'>): boolean {
  return pid === own.pid;
}
