/** A rank of `npm run bench -- mpi`: sums the gradients of the U-Net over the ranks. */

import { sumOverRanks } from '../src/distributed/sum.ts';
import { world } from '../src/distributed/world.ts';
import { median } from './harness.ts';

const PARAMETERS = 35_746_307;
const RUNS = 7;

const communicator = world();
const gradient = new Float32Array(PARAMETERS).fill(1e-9);
const seconds: number[] = [];
for (let run = -1; run < RUNS; run++) {
  await communicator.barrier();
  const start = performance.now();
  await sumOverRanks(communicator, gradient);
  if (run >= 0) seconds.push((performance.now() - start) / 1000);
}
if (communicator.rank === 0) {
  const mebibytes = (4 * PARAMETERS) / 2 ** 20;
  console.log(
    `sum of ${mebibytes.toFixed(0)} MiB over ${communicator.size} ranks: ${median(seconds).toFixed(3)} s (median), ${Math.min(...seconds).toFixed(3)} s (least)`,
  );
}
