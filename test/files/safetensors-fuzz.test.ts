import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SafetensorsError } from '../../src/errors.ts';
import { type NamedTensor, readSafetensors, safetensorsChunks } from '../../src/files/safetensors.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

const serialized = (...file: Parameters<typeof safetensorsChunks>) => Buffer.concat([...safetensorsChunks(...file)]);

const original = serialized(
  new Map<string, NamedTensor>([
    ['layer.0.weight', { dtype: 'F32', shape: [3, 4], data: Float32Array.from({ length: 12 }, (_, i) => i / 7) }],
    ['layer.0.bias', { dtype: 'F32', shape: [4], data: Float32Array.of(1, -2, 3, -4) }],
    ['step', { dtype: 'I64', shape: [], data: BigInt64Array.of(1234n) }],
    ['rng', { dtype: 'U32', shape: [4], data: Uint32Array.of(1, 2, 3, 4) }],
    ['mask', { dtype: 'BOOL', shape: [5], data: Uint8Array.of(1, 0, 1, 0, 1) }],
  ]),
  { format: 'pt', note: 'fuzz' },
);
const headerEnd = 8 + Number(Buffer.from(original).readBigUInt64LE(0));

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'iso-fuzz-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** The tensors that are read, or the error; any error but SafetensorsError fails the test. */
async function outcome(bytes: Uint8Array): Promise<Map<string, NamedTensor> | SafetensorsError> {
  const path = join(root, 'file.safetensors');
  try {
    await writeFile(path, bytes);
    return await readSafetensors(path);
  } catch (error) {
    if (error instanceof SafetensorsError) return error;
    throw error;
  }
}

/** What a reader may rely on for any file that was accepted. */
function expectConsistent(tensors: Map<string, NamedTensor>, bytes: Uint8Array): void {
  let total = 0;
  for (const { shape, data } of tensors.values()) {
    expect(data.length).toBe(shape.reduce((product, length) => product * length, 1));
    total += data.byteLength;
  }
  expect(total).toBe(bytes.length - 8 - Number(Buffer.from(bytes).readBigUInt64LE(0)));
}

const tokens = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '0',
  '-1',
  '1e99',
  'null',
  '\\',
  '"F64"',
  '"U8"',
  '__metadata__',
  ' ',
];

/** The file with one piece of header text removed, doubled, or replaced, and the header length made to fit. */
function mutateHeader(stream: RandomStream): Uint8Array {
  const header = Buffer.from(original.subarray(8, headerEnd)).toString('latin1');
  const begin = stream.integer(header.length);
  const end = Math.min(header.length, begin + stream.integer(12));
  const piece = header.slice(begin, end);
  const replacement = [tokens[stream.integer(tokens.length)] as string, '', piece + piece][stream.integer(3)] as string;
  const changed = Buffer.from(header.slice(0, begin) + replacement + header.slice(end), 'latin1');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(changed.length));
  return Buffer.concat([length, changed, original.subarray(headerEnd)]);
}

describe('readSafetensors on damaged files', () => {
  it('1,500 bit flips: a SafetensorsError, or a consistent file that differs only where the flip was', async () => {
    const stream = new RandomStream(11);
    const expected = await outcome(original);
    if (expected instanceof SafetensorsError) throw expected;
    let rejected = 0;
    for (let i = 0; i < 1500; i++) {
      const position = stream.integer(original.length);
      const bytes = Uint8Array.from(original);
      bytes[position] = (bytes[position] as number) ^ (1 << stream.integer(8));
      const result = await outcome(bytes);
      if (result instanceof SafetensorsError) {
        rejected++;
        expect(position).toBeLessThan(headerEnd);
        continue;
      }
      expectConsistent(result, bytes);
      if (position < headerEnd) continue;
      const changed = [...expected].filter(([name, { data }]) => {
        const bytesOf = (array: NamedTensor['data']) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);
        return Buffer.compare(bytesOf(data), bytesOf((result.get(name) as NamedTensor).data)) !== 0;
      });
      expect(changed).toHaveLength(1);
    }
    expect(rejected).toBeGreaterThan(300);
  });

  it('every truncation is a SafetensorsError', async () => {
    for (let length = 0; length < original.length; length++) {
      expect(await outcome(original.subarray(0, length))).toBeInstanceOf(SafetensorsError);
    }
  });

  it('1,500 header mutations: a SafetensorsError or a consistent file', async () => {
    const stream = new RandomStream(12);
    let rejected = 0;
    for (let i = 0; i < 1500; i++) {
      const bytes = mutateHeader(stream);
      const result = await outcome(bytes);
      if (result instanceof SafetensorsError) rejected++;
      else expectConsistent(result, bytes);
    }
    expect(rejected).toBeGreaterThan(300);
  });
});
