import path from 'node:path';
import { loadPoints } from '../../../src/datasets/index.ts';
import { npyBytes } from '../../../src/files/npy.ts';
import { textMutations } from '../mutations/text.ts';
import { type Files, type FuzzedReader, onlyFile, single } from '../reader.ts';

/** Reads the one file of points of a folder. */
async function readOnly(folder: string): Promise<unknown> {
  return loadPoints(path.join(folder, await onlyFile(folder)), { scaling: 'standardise' });
}

const tables: readonly Files[] = [
  single('points.csv', 'x,y\n1,2\n3.5,-4e2\n0.1,7\n'),
  single('points.csv', '# made by hand\n1;2;3\n4;5;6\n\n'),
  single('points.csv', ',x,y\n0,1.5,2\n1,3,4\n2,"5",6\n'),
  single('points.tsv', 'x\ty\r\n1\t2\r\n3\t4\r\n'),
  single('points.txt', '  1.0   2.0\n 10.5  -3.25\n  0.0   1e-3\n'),
];

/** Points as text: .csv, .tsv and .txt. */
export const table: FuzzedReader = {
  examples: async () => tables,
  read: readOnly,
  mutations: textMutations,
};

function npyFile(header: string, data: Uint8Array, version = 1): Uint8Array {
  const length = Buffer.alloc(version === 1 ? 2 : 4);
  length.writeUIntLE(header.length, 0, length.length);
  return Buffer.concat([
    Buffer.from(`\x93NUMPY${String.fromCharCode(version)}\0`, 'latin1'),
    length,
    Buffer.from(header),
    data,
  ]);
}

const numbers = Float32Array.from({ length: 12 }, (_, i) => i / 3 - 2);
const integers = new Uint8Array(Int16Array.from({ length: 8 }, (_, i) => i * i).buffer);
const arrays: readonly Files[] = [
  single('points.npy', npyBytes(numbers, [6, 2])),
  single('points.npy', npyBytes(Float64Array.from(numbers), [12])),
  single('points.npy', npyFile("{'descr': '<i2', 'fortran_order': True, 'shape': (2, 4), }\n", integers, 2)),
  single('points.npy', npyFile("{'descr': '>i2', 'fortran_order': False, 'shape': (4L, 2L), }\n", integers)),
];

/** Points as a NumPy file. */
export const npy: FuzzedReader = {
  examples: async () => arrays,
  read: readOnly,
  mutations: textMutations,
};
