import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TorchFileError } from '../../../src/errors.ts';
import { readTorchFile, readTorchStateDict } from '../../../src/files/torch/file.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/torch/', import.meta.url));
const json = (name: string) => JSON.parse(readFileSync(path.join(fixtures, name), 'utf8'));
type Expected = Record<string, Record<string, { dtype: string; shape: number[]; hex: string }>>;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'torch-file-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('a state dict', () => {
  it.each(Object.entries(json('expected.json') as Expected))('%s', async (name, expected) => {
    const tensors = await readTorchStateDict(path.join(fixtures, name));
    const read = [...tensors].map(([key, tensor]) => {
      const { buffer, byteOffset, byteLength } = tensor.read();
      const hex = Buffer.from(buffer, byteOffset, byteLength).toString('hex');
      return [key, { dtype: tensor.dtype, shape: tensor.shape, hex }];
    });
    expect(Object.fromEntries(read)).toEqual(expected);
    expect(read.map(([key]) => key)).toEqual(Object.keys(expected));
  });

  it('shares the memory of tensors that share a storage', async () => {
    const tensors = await readTorchStateDict(path.join(fixtures, 'layouts.pth'));
    expect(tensors.get('whole')?.read().buffer).toBe(tensors.get('last')?.read().buffer);
  });
});

it.each(['containers.pth', 'containers-legacy.pth'])('plain containers: %s', async (name) => {
  const value = await readTorchFile(path.join(fixtures, name));
  const shared = [1, 2];
  expect(value).toEqual(
    new Map<unknown, unknown>([
      ['text', 'naïve ☃'],
      ['long text', 'x'.repeat(300)],
      ['int', [0, 255, 65_535, -1, 2 ** 31 - 1, -(2 ** 31), 2 ** 40, -(2 ** 52), 2n ** 62n]],
      ['float', [0.5, -1e300, Number.POSITIVE_INFINITY]],
      ['flags', [true, false, null]],
      ['bytes', Buffer.of(0, 255)],
      ['size', [2, 3]],
      [
        'ordered',
        new Map<unknown, unknown>([
          ['b', 1],
          ['a', new Map([['deep', []]])],
        ]),
      ],
      ['same', [shared, shared]],
      [7, 'a number as a key'],
    ]),
  );
  await expect(readTorchStateDict(path.join(fixtures, name))).rejects.toThrow(/"text" is not a tensor with a name/);
});

describe('what is refused by its name, without a side effect', () => {
  const cases = json('refused.json') as { name: string; says: string; base64: string }[];
  it.each(cases)('$name', async ({ says, base64 }) => {
    const file = path.join(folder, 'weights.pth');
    await writeFile(file, Buffer.from(base64, 'base64'));
    const error = await readTorchFile(file).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(TorchFileError);
    expect(String(error)).toContain(says);
    expect(String(error)).toContain('Nothing of it was executed');
    expect(await readdir(folder)).toEqual(['weights.pth']);
    expect(existsSync('executed')).toBe(false);
  });
});

it.each(['dtypes.pth', 'dtypes-legacy.pth'])('every truncation of %s is an error of its class', async (name) => {
  const bytes = readFileSync(path.join(fixtures, name));
  const file = path.join(folder, 'short.pth');
  for (let length = 0; length < bytes.length; length += 7) {
    await writeFile(file, bytes.subarray(0, length));
    await expect(readTorchFile(file), `${length} bytes`).rejects.toThrow(TorchFileError);
  }
  await rm(file);
});
