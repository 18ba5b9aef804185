import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** A process among those of all machines that share a disk. */
export interface ProcessIdentity {
  readonly host: string;
  /**
   * Equal for processes whose ids can be compared. Containers of one name have ids of their own, and so has a machine
   * after each start; on Linux this tells them apart. Elsewhere it is the name alone.
   */
  readonly machine: string;
  readonly pid: number;
  /** When it started, in the system's own unit; null where that is not known. Process ids are used again. */
  readonly started: string | null;
}

let own: ProcessIdentity | undefined;

export function thisProcess(): ProcessIdentity {
  own ??= { host: hostname(), machine: machine(), pid: process.pid, started: statOf(process.pid)?.started ?? null };
  return own;
}

/** Whether a process of this machine runs. One that started at another time has only got the same id. */
export function isRunning({ pid, started }: Pick<ProcessIdentity, 'pid' | 'started'>): boolean {
  try {
    // Signal 0 sends nothing: it only asks whether the process exists.
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const now = statOf(pid);
  if (!now) return true;
  // A process that was killed keeps its id until its parent asks how it ended. In a container, the first process may never ask.
  return now.state !== 'Z' && now.state !== 'X' && (started === null || now.started === started);
}

function machine(): string {
  const parts = [
    () => hostname(),
    () => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'),
    () => readlinkSync('/proc/self/ns/pid'),
  ];
  return createHash('sha256')
    .update(parts.map((part) => attempt(part) ?? '').join('\n'))
    .digest('hex')
    .slice(0, 12);
}

/**
 * Fields 3 and 22 of /proc/pid/stat on Linux: the state as a letter, and the start in ticks since the machine started. The
 * second field may hold blanks; ')' ends it.
 */
function statOf(pid: number): { readonly state: string; readonly started: string } | undefined {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, 'utf8'));
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, started] = [fields?.[0], fields?.[19]];
  return state === undefined || started === undefined ? undefined : { state, started };
}

function attempt(read: () => string): string | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
