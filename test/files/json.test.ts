import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import { type JsonObject, parseJson, parseStrictJson, readJsonFile, stringifySorted } from '../../src/files/json.ts';

const schema = z.looseObject({ a: z.number() });
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'iso-json-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function fileWith(content: string | Uint8Array): Promise<string> {
  const path = join(root, 'file.json');
  await writeFile(path, content);
  return path;
}

describe('readJsonFile', () => {
  it('reads what fits the schema, with or without a byte order mark', async () => {
    expect(await readJsonFile(await fileWith('{"a": 1, "b": [true]}'), schema)).toEqual({ a: 1, b: [true] });
    expect(await readJsonFile(await fileWith('\ufeff{"a": 1}'), schema)).toEqual({ a: 1 });
  });

  it.each([
    ['a truncated file', '{"a": 1'],
    ['an empty file', ''],
    ['another type', '{"a": "1"}'],
    ['a repeated key', '{"a": 1, "a": 2}'],
    ['a repeated key in other spelling', '{"a": 1, "\\u0061": 2}'],
    ['a repeated key deep inside', '{"a": 1, "b": [{"c": {}, "c" : 2}]}'],
    ['invalid UTF-8', Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)],
    ['NaN', '{"a": NaN}'],
    ['a million open brackets', '['.repeat(1_000_000)],
    ['deep but closed nesting', `{"a":1,"b":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
  ])('refuses %s with a ConfigError', async (_, content) => {
    const path = await fileWith(content);
    await expect(readJsonFile(path, schema)).rejects.toThrow(ConfigError);
  });

  it('names the file in the error and refuses missing files, folders and long files', async () => {
    await expect(readJsonFile(join(root, 'none.json'), schema)).rejects.toThrow(/none\.json does not exist/);
    await mkdir(join(root, 'folder'));
    await expect(readJsonFile(join(root, 'folder'), schema)).rejects.toThrow(ConfigError);
    const path = await fileWith('{"a": 1}');
    await expect(readJsonFile(path, schema, { maxBytes: 7 })).rejects.toThrow(/8 bytes, more than the 7/);
    expect(await readJsonFile(path, schema, { maxBytes: 8 })).toEqual({ a: 1 });
  });

  it.skipIf(process.platform === 'win32')('does not wait for a named pipe', async () => {
    const path = join(root, 'pipe');
    execFileSync('mkfifo', [path]);
    await expect(readJsonFile(path, schema)).rejects.toThrow(/not a regular file/);
  });
});

describe('parseStrictJson', () => {
  it('accepts equal keys in different objects, and equal strings that are values', () => {
    const text = '{"a": "a", "b": {"a": ["a", "a"]}, "c": [{"a": 1}, {"a": 2}], "d\\"a": "\\\\"}';
    expect(parseStrictJson(Buffer.from(text))).toEqual(JSON.parse(text));
  });

  it('equals JSON.parse for arbitrary JSON (500 cases)', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(parseStrictJson(Buffer.from(text))).toEqual(JSON.parse(text));
      }),
      { numRuns: 500, seed: 1 },
    );
  });
});

describe('stringifySorted', () => {
  it("equals Python's json.dumps(indent=2, sort_keys=True) + newline", () => {
    const value = { b: [1, 2.5, [], {}], a: { z: null, Y: true }, ü: 'naïve 😀 "\\\u007f\n', n: 1e-4 };
    // Output of CPython 3.11 for the same value.
    const expected =
      '{\n  "a": {\n    "Y": true,\n    "z": null\n  },\n  "b": [\n    1,\n    2.5,\n    [],\n    {}\n  ],\n' +
      '  "n": 0.0001,\n  "\\u00fc": "na\\u00efve \\ud83d\\ude00 \\"\\\\\\u007f\\n"\n}\n';
    expect(stringifySorted(value)).toBe(expected);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 1n, () => 0])('refuses %s', (value) => {
    expect(() => stringifySorted({ a: [value] } as unknown as JsonObject)).toThrow(InvalidArgumentError);
  });

  it('reads back as it was (300 cases)', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 })), (value) => {
        const text = stringifySorted(value as JsonObject);
        // JSON has no negative zero.
        const plain = JSON.parse(JSON.stringify(value)) as unknown;
        expect(parseJson(Buffer.from(text), z.record(z.string(), z.unknown()), 'text')).toEqual(plain);
      }),
      { numRuns: 300, seed: 2 },
    );
  });
});

it('reads the infinities that Python writes, where it is told to', () => {
  const text = '{"a": -Infinity, "b": [Infinity], "c": "-Infinity \\" Infinity", "d": 1}';
  expect(parseStrictJson(Buffer.from(text), true)).toEqual({
    a: Number.NEGATIVE_INFINITY,
    b: [Number.POSITIVE_INFINITY],
    c: '-Infinity " Infinity',
    d: 1,
  });
  for (const wrong of ['{"a": +Infinity}', '{"a": Infinity2}', '{"a": NaN}', '{Infinity: 1}'])
    expect(() => parseStrictJson(Buffer.from(wrong), true)).toThrow(SyntaxError);
  expect(() => parseStrictJson(Buffer.from(text))).toThrow(SyntaxError);
  // A string that never ends is looked through once, not from each of its quotes.
  const endless = `[Infinity, "${'\\"'.repeat(1_000_000)}`;
  expect(() => parseStrictJson(Buffer.from(endless), true)).toThrow(SyntaxError);
});
