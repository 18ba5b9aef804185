import { availableParallelism } from 'node:os';
import type { Readers } from './reader.ts';
import { type Batch, type BatchResult, type Finding, runBatch, type WatchOptions } from './watch.ts';

/** Cases of one process: a new one now and then, so that nothing adds up. */
const BATCH = 2000;

/** How the cases of one reader ended. */
export interface Tally {
  cases: number;
  read: number;
  refused: number;
  seconds: number;
}

export interface FuzzResult {
  readonly findings: readonly Finding[];
  readonly tallies: ReadonlyMap<string, Tally>;
}

/** How many of `total` cases each reader gets: in proportion to its share, at least one. */
export function divided(total: number, readers: Readers): Map<string, number> {
  const names = Object.keys(readers);
  const shares = names.map((name) => readers[name]?.share ?? 0);
  const sum = shares.reduce((a, b) => a + b, 0);
  let before = 0;
  let given = 0;
  return new Map(
    names.map((name, i) => {
      before += shares[i] ?? 0;
      const count = Math.max(1, Math.round((total * before) / sum) - given);
      given += count;
      return [name, count];
    }),
  );
}

/**
 * Gives mutated inputs to readers, each in child processes.
 *
 * @param counts the number of cases of each reader.
 * @param onBatch called when a process ended.
 */
export async function fuzz(
  counts: ReadonlyMap<string, number>,
  options: WatchOptions,
  { jobs = availableParallelism(), onBatch }: { jobs?: number; onBatch?: (batch: Batch, result: BatchResult) => void },
): Promise<FuzzResult> {
  const queue = [...counts].flatMap(([reader, count]) => batches(reader, count));
  const findings: Finding[] = [];
  const tallies = new Map<string, Tally>();
  const work = async () => {
    for (let batch = queue.shift(); batch; batch = queue.shift()) {
      const begin = performance.now();
      const result = await confirmed(batch, options);
      findings.push(...result.findings);
      if (result.reached < batch.end) queue.unshift({ ...batch, first: result.reached });
      const tally = tallies.get(batch.reader) ?? { cases: 0, read: 0, refused: 0, seconds: 0 };
      tally.cases += result.reached - batch.first;
      tally.read += result.read;
      tally.refused += result.refused;
      tally.seconds += (performance.now() - begin) / 1000;
      tallies.set(batch.reader, tally);
      onBatch?.(batch, result);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return { findings, tallies };
}

function batches(reader: string, count: number): Batch[] {
  return Array.from({ length: Math.ceil(count / BATCH) }, (_, i) => {
    return { reader, first: i * BATCH, end: Math.min(count, (i + 1) * BATCH) };
  });
}

/** A busy machine can make a case slow: one that hangs is tried once more, alone. */
async function confirmed(batch: Batch, options: WatchOptions): Promise<BatchResult> {
  const result = await runBatch(batch, options);
  const last = result.findings.at(-1);
  if (last?.kind !== 'hang') return result;
  const again = await runBatch({ ...batch, first: last.case, end: last.case + 1 }, options);
  return { ...result, findings: [...result.findings.slice(0, -1), ...again.findings] };
}
