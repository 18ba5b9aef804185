import path from 'node:path';
import { type FuzzedReader, type Readers, single } from '../../scripts/fuzz/reader.ts';
import { DatasetError } from '../../src/errors.ts';

/** Refuses every case but the one with the number 1, in which it does something else. */
function faulty(fault: () => unknown): FuzzedReader {
  return {
    examples: async () => [single('a.txt', 'one line')],
    async read(folder) {
      const name = path.basename(folder);
      if (name === 'example') return;
      if (name === '1') await fault();
      throw new DatasetError('one of ours');
    },
  };
}

function forEver(): void {
  for (;;);
}

const faults: Record<string, () => unknown> = {
  good: () => undefined,
  foreign: () => JSON.parse('{'),
  background: () => void Promise.reject(new Error('nobody waits for this')),
  crash: () => process.abort(),
  exit: () => process.exit(0),
  hang: forEver,
  memory: () => new Uint8Array(1.4 * 2 ** 30).fill(1),
};

/** Readers that do what a reader must not do. */
export const readers: Readers = Object.fromEntries(
  Object.entries(faults).map(([name, fault]) => [name, { share: 1, load: async () => faulty(fault) }]),
);
