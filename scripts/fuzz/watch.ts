import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/* One child process, and the watch on it. */

/** Cases [first, end) of one reader. */
export interface Batch {
  readonly reader: string;
  readonly first: number;
  readonly end: number;
}

/** Something that a reader must not do. */
export interface Finding {
  readonly reader: string;
  readonly case: number;
  /** 'crash', 'hang', 'memory', 'foreign error', 'unhandled rejection' or 'uncaught exception'. */
  readonly kind: string;
  readonly text: string;
}

export interface WatchOptions {
  /** The module that exports `readers`. */
  readonly registry: string;
  readonly seed: number;
  /** An empty folder for the inputs. */
  readonly root: string;
  /** Milliseconds of computing after which a case hangs. */
  readonly hangAfter: number;
  /** Leaves the inputs in `root`, and tells what each case gave. */
  readonly keep?: boolean | undefined;
}

export interface BatchResult {
  readonly findings: readonly Finding[];
  /** Cases that were accepted and refused, of those after which the process went on. */
  readonly read: number;
  readonly refused: number;
  /** Where the process stopped; the batch's end if all was well. */
  readonly reached: number;
  /** With `keep`: what the last case gave. */
  readonly outcome?: string | undefined;
}

/** Above this a process is ended before it takes the machine's memory. */
const MAX_RESIDENT_BYTES = 3 * 1024 ** 3;
/** Of V8 alone; the arrays of files and tensors are outside it. */
const HEAP_MEGABYTES = 1024;
/** A process that waits this long for something other than the processor waits for ever. */
const IDLE_MS = 120_000;

const script = fileURLToPath(new URL('case-process.ts', import.meta.url));

/** Runs a batch in a process of its own until its end, or the first case that ends the process or has to be ended. */
export async function runBatch(batch: Batch, options: WatchOptions): Promise<BatchResult> {
  const { registry, seed, root, hangAfter, keep } = options;
  const child = spawn(
    process.execPath,
    [`--max-old-space-size=${HEAP_MEGABYTES}`, '--import', 'tsx', script, registry, batch.reader]
      .concat([seed, batch.first, batch.end].map(String))
      .concat(path.join(root, `${batch.reader}-${batch.first}`)),
    { stdio: ['ignore', 'ignore', 'pipe', 'pipe'], env: { ...process.env, FUZZ_KEEP: keep ? '1' : '' } },
  );
  let current: number | undefined;
  let since = performance.now();
  let lastActive = since;
  let seen: number | undefined;
  let cpuBefore: number | undefined;
  let outcomes: { read: number; refused: number } | undefined;
  let outcome: string | undefined;
  let ended: { kind: string; text: string } | undefined;
  let stderr = '';
  const findings: Finding[] = [];

  const end = (kind: string, text: string) => {
    ended ??= { kind, text };
    child.kill('SIGKILL');
  };
  const timer = setInterval(() => {
    const { cpu, resident, wantsProcessor } = usageOf(child);
    if (seen !== current) {
      seen = current;
      cpuBefore = cpu;
    }
    const busy = cpu === undefined ? performance.now() - since : cpu - (cpuBefore ?? 0);
    if (current !== undefined && busy > hangAfter)
      end('hang', `no end after ${Math.round(busy / 1000)} s of computing`);
    if (wantsProcessor) lastActive = performance.now();
    const idle = performance.now() - Math.max(since, lastActive);
    if (idle > IDLE_MS) end('hang', `no end after ${Math.round(idle / 1000)} s of waiting`);
    if (resident > MAX_RESIDENT_BYTES) end('memory', `${Math.round(resident / 1e6)} MB are in memory`);
  }, 100);
  child.stderr?.on('data', (text: Buffer) => {
    stderr = (stderr + text).slice(-4000);
  });
  const closed = new Promise<string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  for await (const line of createInterface({ input: child.stdio[3] as Readable })) {
    const message: number | Partial<Finding & { read: number; refused: number; outcome: string }> = JSON.parse(line);
    if (typeof message === 'number') {
      current = message;
      since = performance.now();
    } else if (message.outcome !== undefined) outcome = message.outcome;
    else if (message.read !== undefined) outcomes = { read: message.read, refused: message.refused ?? 0 };
    else findings.push({ reader: batch.reader, case: 0, kind: '', text: '', ...message });
  }
  const status = await closed;
  clearInterval(timer);
  if (outcomes) return { findings, ...outcomes, reached: batch.end, outcome };
  if (current === undefined) throw new Error(`the process of ${batch.reader} did not start (${status}): ${stderr}`);
  const { kind, text } = ended ?? { kind: 'crash', text: `${status}: ${stderr}` };
  findings.push({ reader: batch.reader, case: current, kind, text });
  return { findings, read: 0, refused: 0, reached: current + 1, outcome };
}

interface Usage {
  /** Milliseconds of the processor; undefined where the system does not tell: the time that passes stands for it. */
  readonly cpu: number | undefined;
  /** Bytes in memory. */
  readonly resident: number;
  /** Whether it computes, or would if the machine were less busy. */
  readonly wantsProcessor: boolean;
}

/** What a process uses, as Linux tells it. */
function usageOf({ pid }: ChildProcess): Usage {
  try {
    // After the name, which may hold blanks: field 3 is the state, 14 and 15 are ticks of 10 ms, 24 is pages of 4 KiB.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    const cpu = 10 * (Number(fields[11]) + Number(fields[12]));
    return { cpu, resident: 4096 * Number(fields[21]), wantsProcessor: fields[0] === 'R' };
  } catch {
    return { cpu: undefined, resident: 0, wantsProcessor: false };
  }
}
