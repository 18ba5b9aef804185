/*
 * One case, in a process that has the fake libraries for CUDA: `program.ts <case> <folder>`. Prints its figures as JSON on
 * stdout; onnxruntime's verbose log goes to stderr.
 */
import { readFileSync } from 'node:fs';
import { type CaseName, cases } from './cases.ts';
import { type Counters, counters, logPlacement } from './counters.ts';

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
