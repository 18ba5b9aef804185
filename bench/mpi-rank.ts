/**
 * A rank of `npm run bench -- mpi`, of two: sums the gradients of the U-Net over the ranks, and takes whole steps of four images, in
 * turns with rank 0 alone on both cores. `mpi-rank.ts FOLDER`, an empty folder that the ranks share.
 */
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Communicator, SINGLE } from '../src/distributed/communicator.ts';
import { sumOverRanks } from '../src/distributed/sum.ts';
import { world } from '../src/distributed/world.ts';
import { limitThreads } from '../src/threads/threads.ts';
import { median } from './harness.ts';
import { createEngine, PARAMETERS } from './mpi-engine.ts';

const SUMS = 7;
const PAIRS = 5;
const IMAGES = 4;

const [folder = ''] = process.argv.slice(2);
const ranks = world();
const say = (text: string) => {
  if (ranks.rank === 0) console.log(text);
};
const seconds = async (work: () => Promise<unknown>) => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

const gradient = new Float32Array(PARAMETERS).fill(1e-9);
const sums: number[] = [];
for (let run = -1; run < SUMS; run++) {
  await ranks.barrier();
  const taken = await seconds(() => sumOverRanks(ranks, gradient));
  if (run >= 0) sums.push(taken);
}
const mebibytes = (4 * PARAMETERS) / 2 ** 20;
say(
  `sum of ${mebibytes.toFixed(0)} MiB over ${ranks.size} ranks: ${median(sums).toFixed(3)} s (median), ${Math.min(...sums).toFixed(3)} s (least)`,
);

let exchanged = 0;
limitThreads(2);
const alone =
  ranks.rank === 0 ? await createEngine({ batch: IMAGES, batches: 1, over: 'step', ranks: SINGLE }) : undefined;
limitThreads(1);
const together = await createEngine({ batch: IMAGES / ranks.size, batches: 1, over: 'step', ranks: timed(ranks) });
const taken = { alone: [] as number[], together: [] as number[], exchange: [] as number[] };
for (let pair = -1; pair < PAIRS; pair++) {
  // A rank that waits in MPI would keep a core busy.
  const done = path.join(folder, `pair-${pair}`);
  if (alone) {
    const step = await seconds(() => alone.run(pair + 1, 1));
    if (pair >= 0) taken.alone.push(step);
    writeFileSync(done, '');
  } else while (!existsSync(done)) await sleep(5);
  await ranks.barrier();
  exchanged = 0;
  const step = await seconds(() => together.run(pair + 1, 1));
  if (pair < 0) continue;
  taken.together.push(step);
  taken.exchange.push(exchanged);
}
await together.release();
await alone?.release();
const [one, two, exchange] = [median(taken.alone), median(taken.together), median(taken.exchange)];
say(`a step of ${IMAGES} images: ${one.toFixed(2)} s by one process with two threads`);
say(
  `${two.toFixed(2)} s by ${ranks.size} ranks with a thread each, of which rank 0 exchanged and waited ${exchange.toFixed(2)} s (${((100 * exchange) / two).toFixed(0)} %)`,
);

/** The ranks, with the time that is spent in them. */
function timed(ranks: Communicator): Communicator {
  const measured =
    <Args extends unknown[]>(call: (...args: Args) => Promise<void>) =>
    async (...args: Args) => {
      exchanged += await seconds(() => call(...args));
    };
  return {
    ...SINGLE,
    rank: ranks.rank,
    size: ranks.size,
    broadcast: measured((bytes: Uint8Array) => ranks.broadcast(bytes)),
    allGather: measured((own: Uint8Array, all: Uint8Array) => ranks.allGather(own, all)),
    allToAll: measured((parts: Uint8Array, received: Uint8Array) => ranks.allToAll(parts, received)),
    barrier: measured(() => ranks.barrier()),
  };
}
