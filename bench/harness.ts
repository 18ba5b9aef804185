import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** A Python process that answers one JSON line on stdout for each JSON line on stdin. */
export interface Reference {
  /** Sends `message` and resolves to the answer. Rejects when the script answers `{error}` or ends. */
  request<Answer>(message: unknown): Promise<Answer>;
  close(): void;
}

/** What one side reports of one run: the seconds of its computation by its own clock, and its memory. */
export interface Measurement {
  seconds: number;
  /** Of all threads and processes of the side: what it takes from a machine that others use too. */
  processorSeconds?: number;
  /** The growth of the resident set during the run, at its highest point. */
  peakBytes?: number;
}

export interface Pairs {
  name: string;
  /** Measured pairs, 5 when not given. */
  pairs?: number;
  /** Pairs run and printed before, not counted, 1 when not given. */
  warmup?: number;
  ours: () => Promise<Measurement>;
  reference: () => Promise<Measurement>;
}

export interface PairsResult {
  /** Median seconds of each side. */
  oursSeconds: number;
  referenceSeconds: number;
  /** Reference time / our time. */
  ratio: number;
  /** The same of the medians of processor time; undefined unless both sides reported it. */
  processorRatio: number | undefined;
  /** The largest `peakBytes` of each side over all pairs, the warm-up included; undefined if never reported. */
  oursPeakBytes: number | undefined;
  referencePeakBytes: number | undefined;
}

/** No Python with the wanted modules; `bench/run.ts` prints the message and exits with code 3. */
export class MissingReferenceError extends Error {}

const INSTALL_HINT = 'apt-get install python3-torch python3-torchvision python3-sklearn libopenblas0-pthread';

let chosenPython: string | undefined;

/**
 * Finds the interpreter that `startReference` will use: `$PYTHON` if set, else the first of `/usr/bin/python3` and
 * `python3` that can import all `modules`.
 *
 * @throws MissingReferenceError with the command that installs what is missing.
 */
export function requirePython(modules: readonly string[]): string {
  const imports = modules.map((module) => `import ${module}`).join('; ');
  const python = pythonCandidates().find((path) => spawnSync(path, ['-c', imports]).status === 0);
  if (python === undefined) {
    throw new MissingReferenceError(
      `The reference needs Python with ${modules.join(', ')}; tried ${pythonCandidates().join(', ')}.\n` +
        `Install it with: ${INSTALL_HINT}\n` +
        'or set PYTHON to an interpreter that has them.',
    );
  }
  chosenPython = python;
  return python;
}

/** Starts `python script ...args` and keeps it alive, so that its start-up and imports are never timed. */
export function startReference(script: string, args: readonly string[] = []): Reference {
  const python = chosenPython ?? (pythonCandidates()[0] as string);
  const child = spawn(python, ['-u', script, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  return referenceOver(child, script);
}

/** Runs both sides alternately, prints every pair, and returns the medians. Prints no ratio: see `printRatio`. */
export async function runPairs(options: Pairs): Promise<PairsResult> {
  const { name, pairs = 5, warmup = 1 } = options;
  const ours: Measurement[] = [];
  const reference: Measurement[] = [];
  for (let pair = -warmup; pair < pairs; pair++) {
    const ourRun = await options.ours();
    const referenceRun = await options.reference();
    ours.push(ourRun);
    reference.push(referenceRun);
    const label = pair < 0 ? 'warm-up' : `pair ${pair + 1}`;
    const ratio = (referenceRun.seconds / ourRun.seconds).toFixed(2);
    console.log(
      `${name} ${label}: ours ${inMilliseconds(ourRun)}, reference ${inMilliseconds(referenceRun)}, x${ratio}`,
    );
  }
  const oursSeconds = median(ours.slice(warmup).map((run) => run.seconds));
  const referenceSeconds = median(reference.slice(warmup).map((run) => run.seconds));
  const processor = [ours, reference].map((runs) =>
    median(runs.slice(warmup).map(({ processorSeconds = Number.NaN }) => processorSeconds)),
  );
  const processorRatio = (processor[1] as number) / (processor[0] as number);
  return {
    oursSeconds,
    referenceSeconds,
    ratio: referenceSeconds / oursSeconds,
    processorRatio: Number.isNaN(processorRatio) ? undefined : processorRatio,
    oursPeakBytes: highestPeak(ours),
    referencePeakBytes: highestPeak(reference),
  };
}

/** The line a benchmark ends with. `name` may hold a variant, such as `step batch 128`. */
export function printRatio(name: string, ratio: number): void {
  console.log(`ratio ${name} ${ratio.toFixed(2)}`);
}

/** The ratio of processor times, where both sides reported them: it says more on a machine that others use too. */
export function printProcessorRatio({ processorRatio }: PairsResult): void {
  if (processorRatio !== undefined) console.log(`processor time: x${processorRatio.toFixed(2)}`);
}

/** `peak memory` of both sides, for benchmarks that report it. */
export function printPeaks(result: PairsResult): void {
  const [ours, reference] = [result.oursPeakBytes, result.referencePeakBytes].map((bytes) =>
    bytes === undefined ? 'not measured' : `${(bytes / 2 ** 20).toFixed(1)} MiB`,
  );
  console.log(`peak memory above the start of the run: ours ${ours}, reference ${reference}`);
}

/**
 * Runs `work` in this process and measures its time and the growth of the resident set (Linux: the high-water mark
 * is reset first, so that neither start-up nor an earlier run is counted; elsewhere the memory is not reported).
 */
export async function measure(work: () => Promise<unknown>): Promise<Measurement> {
  const baseline = resetPeakMemory();
  const [start, used] = [performance.now(), process.cpuUsage()];
  await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(used);
  const processorSeconds = (user + system) / 1e6;
  if (baseline === undefined) return { seconds, processorSeconds };
  return { seconds, processorSeconds, peakBytes: Math.max(0, memoryStatus('VmHWM') - baseline) };
}

/** The largest resident set of this process so far, in bytes; undefined where the system does not say. */
export function peakMemory(): number | undefined {
  try {
    return memoryStatus('VmHWM');
  } catch {
    return undefined;
  }
}

/** The bytes of a vector, as the references read them. */
export function base64(values: Float32Array): string {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64');
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

function pythonCandidates(): string[] {
  const wanted = process.env.PYTHON;
  return wanted ? [wanted] : ['/usr/bin/python3', 'python3'];
}

function referenceOver(child: ChildProcess, script: string): Reference {
  const { stdin, stdout } = child;
  if (!stdin || !stdout) throw new Error(`${script}: the process has no pipes`);
  const waiting: { resolve: (answer: unknown) => void; reject: (error: Error) => void }[] = [];
  let ended: Error | undefined;

  const end = (error: Error) => {
    ended ??= error;
    for (const { reject } of waiting.splice(0)) reject(ended);
  };
  child.on('error', end);
  child.on('exit', (code, signal) => end(new Error(`${script} ended with ${signal ?? `exit code ${code}`}`)));
  stdin.on('error', end);
  createInterface({ input: stdout }).on('line', (line) => {
    const request = waiting.shift();
    if (!request) return;
    try {
      const answer = JSON.parse(line) as { error?: string };
      if (answer.error === undefined) request.resolve(answer);
      else request.reject(new Error(`${script}: ${answer.error}`));
    } catch {
      request.reject(new Error(`${script} answered with a line that is not JSON: ${line.slice(0, 200)}`));
    }
  });

  return {
    request<Answer>(message: unknown) {
      return new Promise<Answer>((resolve, reject) => {
        if (ended) return reject(ended);
        waiting.push({ resolve: (answer) => resolve(answer as Answer), reject });
        stdin.write(`${JSON.stringify(message)}\n`);
      });
    },
    close() {
      stdin.end();
    },
  };
}

function resetPeakMemory(): number | undefined {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
    return memoryStatus('VmRSS');
  } catch {
    return undefined;
  }
}

function memoryStatus(field: 'VmRSS' | 'VmHWM'): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  if (!match) throw new Error(`/proc/self/status has no ${field}`);
  return Number(match[1]) * 1024;
}

function highestPeak(runs: readonly Measurement[]): number | undefined {
  const peaks = runs.flatMap((run) => run.peakBytes ?? []);
  return peaks.length > 0 ? Math.max(...peaks) : undefined;
}

function inMilliseconds({ seconds, processorSeconds }: Measurement): string {
  const processor = processorSeconds === undefined ? '' : ` (processor ${(processorSeconds * 1000).toFixed(0)} ms)`;
  return `${(seconds * 1000).toFixed(1)} ms${processor}`;
}
