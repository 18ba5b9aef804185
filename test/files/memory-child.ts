/**
 * `tsx memory-child.ts read|write FILE [MEBIBYTES]` reads all tensors of a safetensors file, or writes one from views
 * of one vector, and prints by how many bytes the resident set was higher at its highest point than before.
 */

import { readFileSync } from 'node:fs';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { floatTensorInfos, readFloatTensors } from '../../src/files/float-tensors.ts';
import { type NamedTensor, safetensorsChunks } from '../../src/files/safetensors.ts';

const TENSORS = 8;
const [task, file = '', mebibytes = '0'] = process.argv.slice(2);
const work = (tensors: number) => (task === 'write' ? write(file, tensors, Number(mebibytes)) : read(file, tensors));
// Code that runs the first time takes memory of its own.
await work(0);
const before = resident('VmRSS');
await work(TENSORS);
process.stdout.write(`${resident('VmHWM') - before}\n`);

async function read(path: string, tensors: number): Promise<void> {
  const wanted = [...(await floatTensorInfos(path))].slice(0, tensors);
  const vector = new Float32Array(wanted.reduce((sum, [, { shape }]) => sum + (shape[0] ?? 0), 0));
  let offset = 0;
  const views = wanted.map(([name, { shape }]): [string, Float32Array] => {
    const begin = offset;
    offset += shape[0] ?? 0;
    return [name, vector.subarray(begin, offset)];
  });
  await readFloatTensors(path, new Map(views));
}

async function write(path: string, tensors: number, size: number): Promise<void> {
  const length = (size * 2 ** 20) / 4 / TENSORS;
  const vector = new Float32Array(tensors * length).fill(0.5);
  const views = Array.from({ length: tensors }, (_, i): [string, NamedTensor] => [
    `t${i}`,
    { dtype: 'F32', shape: [length], data: vector.subarray(i * length, (i + 1) * length) },
  ]);
  await writeFileAtomic(path, safetensorsChunks(new Map(views)));
}

function resident(field: string): number {
  const line = new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(line?.[1]) * 1024;
}
