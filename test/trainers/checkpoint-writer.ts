import { writeCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import { findLatestCheckpoint, pruneCheckpoints } from '../../src/trainers/checkpoint/checkpoint-folder.ts';

/** Writes checkpoints into the folder given as argument until it is killed; every weight equals the step. */
const root = process.argv[2] as string;
const start = (await findLatestCheckpoint(root)).step ?? 0;
for (let step = start + 1; ; step++) {
  const data = new Float32Array(200_000).fill(step);
  await writeCheckpoint(root, step, {
    tensors: new Map([['w', { dtype: 'F32', shape: [200_000], data }]]),
    state: { step },
  });
  await pruneCheckpoints(root, 2);
  process.stdout.write(`${step}\n`);
}
