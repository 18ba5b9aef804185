import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Communicator, SINGLE } from '../src/distributed/communicator.ts';
import { limitThreads } from '../src/threads/threads.ts';
import type { Engine } from '../src/trainers/engines/engine.ts';
import { median, printRatio } from './harness.ts';
import { createEngine } from './mpi-engine.ts';

const BATCH = 2;
const PAIRS = 4;

/**
 * What several processes cost the 35.7 M-parameter U-Net: the sum of its gradients over 2 ranks beside a step, a step on 2 ranks
 * beside one of one process with two threads, and what the
 * isotropy of the whole step costs with several batches (a second forward pass) and with one batch a rank (the cut graph).
 * The last two are seconds of the cpu on one thread, so that what else runs counts less.
 */
export async function run(): Promise<void> {
  // Threads that wait for each other would count as work.
  limitThreads(1);
  const accumulation = await compare('four batches a step', 4, SINGLE);
  const cut = await compare('one batch on each of two ranks', 1, echo());
  const rank = fileURLToPath(new URL('./mpi-rank.ts', import.meta.url));
  const folder = mkdtempSync(path.join(tmpdir(), 'iso-bench-mpi-'));
  const mpirun = [
    '--oversubscribe',
    '--allow-run-as-root',
    '-n',
    '2',
    process.execPath,
    '--import',
    'tsx',
    rank,
    folder,
  ];
  const { error } = spawnSync('mpirun', mpirun, { stdio: 'inherit' });
  rmSync(folder, { recursive: true });
  if (error) console.log(`no mpirun, so the sum over ranks is not measured: ${error.message}`);
  printRatio('mpi-exact-accumulation', accumulation);
  printRatio('mpi-exact-cut', cut);
}

/** Seconds with the isotropy of the step over seconds with that of each batch. */
async function compare(name: string, batches: number, communicator: Communicator): Promise<number> {
  const engines = {
    batch: await createEngine({ batch: BATCH, batches, over: 'batch', ranks: communicator }),
    step: await createEngine({ batch: BATCH, batches, over: 'step', ranks: communicator }),
  };
  const seconds = { batch: [] as number[], step: [] as number[] };
  for (let pair = -1; pair < PAIRS; pair++)
    for (const [over, engine] of Object.entries(engines) as ['batch' | 'step', Engine][]) {
      const before = process.cpuUsage();
      await engine.run(pair + 1, 1);
      const { user, system } = process.cpuUsage(before);
      if (pair >= 0) seconds[over].push((user + system) / 1e6);
    }
  for (const engine of Object.values(engines)) await engine.release();
  const [batch, step] = [median(seconds.batch), median(seconds.step)];
  console.log(`${name}: of the batch ${batch.toFixed(2)} s, of the step ${step.toFixed(2)} s`);
  return step / batch;
}

/** Two ranks, of which the other has what this one has: what a rank computes, without waiting. */
function echo(): Communicator {
  return {
    ...SINGLE,
    size: 2,
    allGather: async (own, all) => {
      for (let at = 0; at < all.length; at += own.length) all.set(own, at);
    },
  };
}
