/*
 * One case, in a process that has the fake libraries for CUDA: `program.ts <case> <folder>`. Prints its figures as JSON on
 * stdout; onnxruntime's verbose log goes to stderr.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { InferenceSession } from 'onnxruntime-node';
import { type CaseName, cases } from './cases.ts';

/** What the fake counts; see counters.h. */
interface Counters {
  readonly bytesToDevice: number;
  readonly copiesToHost: number;
  readonly bytesToHost: number;
  readonly launches: number;
  readonly memoryPeak: number;
  readonly unevenConvolutions: number;
  readonly loadedWithoutTf32: number;
}

export interface Figures {
  /** Of one step: a long run minus a short one, so that what is done once a run does not count. */
  readonly step: Pick<Counters, 'bytesToDevice' | 'copiesToHost' | 'launches'> & {
    /** Without the reports of training, which go to JavaScript. */
    readonly bytesToHost: number;
    /** Processor time of the thread that feeds the GPU. */
    readonly hostMs: number;
  };
  readonly memoryPeak: number;
  readonly unevenConvolutions: number;
  /** Whether the CUDA libraries were loaded to multiply in TF32. */
  readonly tf32: boolean;
}

/** What a run counts, and processor time. */
type Run = Counters & { readonly hostMs: number };

const SHORT = 2;
const LONG = 22;
const REPEATS = 3;

logPlacement();
const [, , name = '', folder = ''] = process.argv;
const run = await cases[name as CaseName](folder);
const reports = await run(SHORT);
const short: Run[] = [];
const long: Run[] = [];
for (let i = 0; i < REPEATS; i++) {
  short.push(await measured(SHORT));
  long.push(await measured(LONG));
}
const perStep = (figure: keyof Run) => (least(long, figure) - least(short, figure)) / (LONG - SHORT);
const { memoryPeak, unevenConvolutions, loadedWithoutTf32 } = counters();
const figures: Figures = {
  step: {
    bytesToDevice: perStep('bytesToDevice'),
    copiesToHost: perStep('copiesToHost'),
    bytesToHost: perStep('bytesToHost') - reports,
    launches: perStep('launches'),
    hostMs: perStep('hostMs'),
  },
  memoryPeak,
  unevenConvolutions,
  tf32: loadedWithoutTf32 === 0,
};
console.log(JSON.stringify(figures));

/** Where nodes are placed is said in the verbose log of a session alone. Of sessions on the cpu nobody wants to know. */
function logPlacement(): void {
  const create = InferenceSession.create.bind(InferenceSession);
  const logged: typeof create = (...args: unknown[]) => {
    const settings = args.findLast((arg) => typeof arg === 'object') as InferenceSession.SessionOptions;
    const onCuda = settings.executionProviders?.includes('cuda');
    const [model, ...others] = args as Parameters<typeof create>;
    return onCuda ? create(model, { ...settings, logSeverityLevel: 0 }) : create(model, ...others);
  };
  Object.assign(InferenceSession, { create: logged });
}

async function measured(steps: number): Promise<Run> {
  const before = counters();
  const time = mainThreadMs();
  await run(steps);
  const hostMs = mainThreadMs() - time;
  const after = counters();
  const names = Object.keys(after) as (keyof Counters)[];
  const counted = Object.fromEntries(names.map((name) => [name, after[name] - before[name]])) as unknown as Counters;
  return { ...counted, hostMs };
}

/** Of times: what else the machine does makes them longer, never shorter. */
function least(runs: readonly Run[], figure: keyof Run): number {
  return Math.min(...runs.map((run) => run[figure]));
}

function mainThreadMs(): number {
  const [nanoseconds] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ');
  return Number(nanoseconds) / 1e6;
}

/** The file of this process: records of a name, 24 bytes, and a value, 8. */
function counters(): Counters {
  const file = readFileSync(path.join(process.env.FAKE_CUDA_COUNTERS ?? '', String(process.pid)));
  const records = Array.from({ length: file.length / 32 }, (_, i) => file.subarray(32 * i, 32 * (i + 1)));
  return Object.fromEntries(
    records.map((record) => [record.toString('latin1', 0, record.indexOf(0)), Number(record.readBigInt64LE(24))]),
  ) as unknown as Counters;
}
