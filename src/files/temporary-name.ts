import { randomBytes } from 'node:crypto';

/** The names this process is writing under now; a name of our process id that is not here is a dead namesake's. */
const active = new Set<string>();

const pattern = /^\.tmp-(.+)-(\d+)-[0-9a-f]{12}$/;

/**
 * A hidden name for something unfinished that will be renamed to its final name: `.tmp-<label>-<process id>-<random>`.
 * Call {@link releaseTemporaryName} once it was renamed or removed.
 */
export function temporaryName(label: string): string {
  const name = `.tmp-${label}-${process.pid}-${randomBytes(6).toString('hex')}`;
  active.add(name);
  return name;
}

export function releaseTemporaryName(name: string): void {
  active.delete(name);
}

/** Whether `name` is a temporary name of a label that `isLabel` accepts, left behind by a writer that no longer runs. */
export function isLeftover(name: string, isLabel: (label: string) => boolean): boolean {
  const match = pattern.exec(name);
  if (match === null || active.has(name) || !isLabel(match[1] as string)) return false;
  const pid = Number(match[2]);
  return pid === process.pid || !isRunning(pid);
}

function isRunning(pid: number): boolean {
  try {
    // Signal 0 sends nothing: it only asks whether the process exists.
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
