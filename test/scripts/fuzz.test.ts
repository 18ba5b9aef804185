import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mutatedCase } from '../../scripts/fuzz/mutations/mutate.ts';
import { single } from '../../scripts/fuzz/reader.ts';
import { readers } from '../../scripts/fuzz/readers/index.ts';
import { divided, fuzz } from '../../scripts/fuzz/run.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-fuzz-test-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

// About 15 s on two free cores, most of it to start a process for each reader.
const timeout = 240_000;

describe('npm run fuzz', () => {
  it(
    'finds nothing in 150 cases of all readers',
    async () => {
      const { stdout } = await promisify(execFile)('npx', ['tsx', 'scripts/fuzz/fuzz.ts', '150', '--seed', '1']);
      expect(stdout).toMatch(/^150 cases, 0 findings of 0 kinds \(seed 1\)$/m);
      for (const name of Object.keys(readers)) expect(stdout).toMatch(new RegExp(`^${name} +\\d`, 'm'));
    },
    timeout,
  );

  it(
    'finds every fault that its watch is for, tells the case, and goes on after it',
    async () => {
      const registry = fileURLToPath(new URL('faulty-readers.ts', import.meta.url));
      const run = (names: readonly string[], hangAfter: number) =>
        fuzz(new Map(names.map((name) => [name, 3])), { registry, seed: 0, root, hangAfter }, {});
      // A machine whose memory is short takes seconds to give out a gigabyte.
      const watched = await run(['good', 'foreign', 'background', 'crash', 'exit', 'memory'], 60_000);
      const hanging = await run(['hang'], 1000);
      const findings = [...watched.findings, ...hanging.findings];
      const tallies = [...watched.tallies.values(), ...hanging.tallies.values()];
      expect(findings.map(({ reader, kind, ...finding }) => [reader, kind, finding.case]).sort()).toEqual([
        ['background', 'unhandled rejection', 1],
        ['crash', 'crash', 1],
        ['exit', 'crash', 1],
        ['foreign', 'foreign error', 1],
        ['hang', 'hang', 1],
        ['memory', 'memory', 1],
      ]);
      expect(tallies.map(({ cases }) => cases)).toEqual(Array.from({ length: 7 }, () => 3));
    },
    timeout,
  );

  it('changes every case in its own way, the same with the same seed, and leaves the examples alone', () => {
    const text = Buffer.from('one line of text, which is long enough to be changed in many ways');
    const reader = { examples: async () => [], read: async () => undefined };
    const all = (seed: number) =>
      Array.from({ length: 50 }, (_, index) => {
        const [bytes] = mutatedCase(reader, [single('a.txt', text)], { seed, name: 'text', index }).values();
        return Buffer.from(bytes ?? []).toString('latin1');
      });
    const first = all(1);
    expect(all(1)).toEqual(first);
    expect(new Set(first).size).toBeGreaterThan(40);
    expect(new Set([...first, ...all(2)]).size).toBeGreaterThan(80);
    expect(text.toString()).toMatch(/^one line of text, which is long enough to be changed in many ways$/);
  });

  it('divides the cases by the shares', () => {
    const counts = [...divided(100_000, readers).values()];
    expect(counts.reduce((a, b) => a + b)).toBe(100_000);
    expect(Math.min(...divided(10, readers).values())).toBe(1);
  });
});
