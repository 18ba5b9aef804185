import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runExample } from '../run-example.ts';

const child = fileURLToPath(new URL('memory-child.ts', import.meta.url));
const MiB = 2 ** 20;
const TENSORS = 8;

/** A file of `bytes` in 8 tensors, all zero: the data is a hole that takes no room on the disk. */
async function sparseFile(file: string, dtype: 'F32' | 'F16', bytes: number): Promise<void> {
  const each = bytes / TENSORS;
  const entries = Array.from({ length: TENSORS }, (_, i) => [
    `t${i}`,
    { dtype, shape: [each / (dtype === 'F32' ? 4 : 2)], data_offsets: [i * each, (i + 1) * each] },
  ]);
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const handle = await open(file, 'w');
  await handle.write(Buffer.concat([length, json]));
  await handle.truncate(8 + json.length + bytes);
  await handle.close();
}

/*
 * The values themselves take 256 MiB. A second copy would make it 512; one piece of the file (8 MiB) and the garbage
 * collector's slack may be there besides.
 */
describe.skipIf(process.platform !== 'linux')('256 MiB of weights are in memory once', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'iso-memory-'));
    await sparseFile(path.join(folder, 'f32'), 'F32', 256 * MiB);
    await sparseFile(path.join(folder, 'f16'), 'F16', 128 * MiB);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it.each([
    ['read', ['read', 'f32']],
    ['read and converted', ['read', 'f16']],
    ['written', ['write', 'written', '256']],
  ])(
    'while they are %s',
    async (_what, args) => {
      const peak = Number(await runExample(child, args, folder));
      expect(peak).toBeGreaterThan(250 * MiB);
      expect(peak).toBeLessThan(256 * MiB * 1.3);
    },
    120_000,
  );
});
