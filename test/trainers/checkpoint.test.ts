import { type ChildProcess, spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CheckpointError, InvalidArgumentError } from '../../src/errors.ts';
import { thisProcess } from '../../src/files/process-identity.ts';
import type { NamedTensor } from '../../src/files/safetensors.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { type CheckpointContent, readCheckpoint, writeCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import {
  findLatestCheckpoint,
  lastWritten,
  pruneCheckpoints,
} from '../../src/trainers/checkpoint/checkpoint-folder.ts';
import { compiledScript } from '../compiled-script.ts';

const { machine } = thisProcess();
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'iso-checkpoint-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

function content(step: number): CheckpointContent {
  return {
    tensors: new Map<string, NamedTensor>([
      ['weights', { dtype: 'F32', shape: [2, 3], data: Float32Array.from({ length: 6 }, (_, i) => step + i / 3) }],
      ['step', { dtype: 'I64', shape: [], data: BigInt64Array.of(BigInt(step)) }],
    ]),
    state: { seed: 7, note: 'größe', nested: { losses: [0.1, 1e-30, step] } },
  };
}

async function flipBit(path: string, position: number, bit: number): Promise<void> {
  const bytes = await readFile(path);
  expect(position).toBeLessThan(bytes.length);
  bytes[position] = (bytes[position] as number) ^ (1 << bit);
  await writeFile(path, bytes);
}

describe('writeCheckpoint and readCheckpoint', () => {
  it('give back every bit, in a folder with two files', async () => {
    const dir = await writeCheckpoint(join(root, 'run'), 20, content(20));
    expect(dir).toBe(join(root, 'run/checkpoint-20'));
    expect((await readdir(dir)).sort()).toEqual(['state.safetensors', 'trainer_state.json']);
    const read = await readCheckpoint(dir);
    expect(read.step).toBe(20);
    expect(read.state).toEqual(content(20).state);
    expect(new Map([...read.tensors].sort())).toEqual(new Map([...content(20).tensors].sort()));
  });

  it('replace a checkpoint of the same step', async () => {
    await writeCheckpoint(root, 5, content(1));
    const dir = await writeCheckpoint(root, 5, content(2));
    expect((await readCheckpoint(dir)).tensors.get('step')?.data).toEqual(BigInt64Array.of(2n));
    expect(await readdir(root)).toEqual(['checkpoint-5']);
  });

  it("do not replace another run's checkpoint of the step", async () => {
    await writeCheckpoint(root, 5, content(1), { run_id: 'a', sequence: 1 });
    await mkdir(join(root, 'checkpoint-5-2'));
    const origin = { run_id: 'b', sequence: 2 };
    expect(await writeCheckpoint(root, 5, content(2), origin)).toBe(join(root, 'checkpoint-5-3'));
    expect(await writeCheckpoint(root, 5, content(3), origin)).toBe(join(root, 'checkpoint-5-3'));
    expect((await readCheckpoint(join(root, 'checkpoint-5'))).origin).toEqual({ run_id: 'a', sequence: 1 });
    await rename(
      join(root, 'checkpoint-5'),
      join(root, `.tmp-checkpoint-5.old-${machine}-${process.pid}-0123456789ab`),
    );
    expect(await writeCheckpoint(root, 5, content(4), origin)).toBe(join(root, 'checkpoint-5-3'));
  });

  it('write nothing when the content cannot be stored', async () => {
    const { tensors, state } = content(1);
    await expect(writeCheckpoint(root, -1, content(1))).rejects.toThrow(InvalidArgumentError);
    const notANumber = { tensors, state: { ...state, loss: Number.NaN } };
    await expect(writeCheckpoint(root, 1, notANumber)).rejects.toThrow(InvalidArgumentError);
    const wrong = new Map<string, NamedTensor>([['x', { dtype: 'F32', shape: [2], data: Float32Array.of(1) }]]);
    await expect(writeCheckpoint(root, 1, { tensors: wrong, state })).rejects.toThrow(InvalidArgumentError);
    expect(await readdir(root)).toEqual([]);
  });

  it('1,200 bit flips and truncations of either file: a CheckpointError or the identical content', async () => {
    const dir = await writeCheckpoint(root, 3, content(3));
    const expected = await readCheckpoint(dir);
    const stream = new RandomStream(31);
    let rejected = 0;
    for (const name of ['state.safetensors', 'trainer_state.json']) {
      const path = join(dir, name);
      const original = await readFile(path);
      for (let i = 0; i < 600; i++) {
        const position = stream.integer(original.length);
        if (i % 4 === 0) await truncate(path, position);
        else await flipBit(path, position, stream.integer(8));
        const result = await readCheckpoint(dir).catch((error: unknown) => error);
        if (result instanceof CheckpointError) rejected++;
        else expect(result).toEqual(expected);
        await writeFile(path, original);
      }
    }
    // Only flips of JSON's white space may pass.
    expect(rejected).toBeGreaterThan(1000);
  });

  it.each([
    ['a state with deep nesting', `{"state":${'['.repeat(500_000)}`],
    ['a state that is no object', '[]'],
    ['a later format version', '{"format_version":2}'],
  ])('%s is a CheckpointError', async (_, text) => {
    const dir = await writeCheckpoint(root, 3, content(3));
    await writeFile(join(dir, 'trainer_state.json'), text);
    await expect(readCheckpoint(dir)).rejects.toThrow(CheckpointError);
  });

  it('a missing folder is a CheckpointError', async () => {
    await expect(readCheckpoint(join(root, 'none'))).rejects.toThrow(CheckpointError);
  });

  it("the tensors of one checkpoint with another's state are a CheckpointError", async () => {
    const a = await writeCheckpoint(root, 1, content(1));
    const b = await writeCheckpoint(root, 2, content(2));
    await cp(join(b, 'state.safetensors'), join(a, 'state.safetensors'));
    await expect(readCheckpoint(a)).rejects.toThrow(/does not match its checksum/);
  });
});

describe('findLatestCheckpoint', () => {
  it('is empty for a missing or empty folder', async () => {
    expect(await findLatestCheckpoint(join(root, 'none'))).toEqual({ skipped: [] });
    expect(await findLatestCheckpoint(root)).toEqual({ skipped: [] });
  });

  it('is the one that was written last, whatever its step and its run', async () => {
    await writeCheckpoint(root, 100, content(100));
    await writeCheckpoint(root, 120, content(120), { run_id: 'a', sequence: 1 });
    await writeCheckpoint(root, 9, content(9), { run_id: 'b', sequence: 2 });
    expect((await findLatestCheckpoint(root)).step).toBe(9);
    const all = { sequence: 2, lastRun: 'b' };
    expect(await lastWritten(root, 'a')).toEqual({ dir: join(root, 'checkpoint-120'), ...all });
    expect(await lastWritten(root, 'none')).toEqual({ dir: undefined, ...all });
  });

  it('without an order of writing goes by number, and passes over damaged ones with the reason', async () => {
    for (const step of [9, 10, 100, 1000]) await writeCheckpoint(root, step, content(step));
    await flipBit(join(root, 'checkpoint-1000/state.safetensors'), 120, 3);
    await rm(join(root, 'checkpoint-100/trainer_state.json'));
    await mkdir(join(root, 'checkpoint-best'));
    await mkdir(join(root, 'checkpoint-2000'));
    const { dir, step, skipped } = await findLatestCheckpoint(root);
    expect(dir).toBe(join(root, 'checkpoint-10'));
    expect(step).toBe(10);
    expect(skipped.map((one) => one.dir)).toEqual(
      ['checkpoint-2000', 'checkpoint-100', 'checkpoint-1000'].map((name) => join(root, name)),
    );
    expect(skipped[2]?.error.message).toMatch(/checksum/);
  });
});

describe('pruneCheckpoints', () => {
  it('keeps the newest and folders that are not ours', async () => {
    for (const step of [1, 2, 3, 10]) await writeCheckpoint(root, step, content(step));
    await writeFile(join(root, 'checkpoint-1/notes.txt'), 'mine');
    await mkdir(join(root, 'checkpoint-0'));
    await mkdir(join(root, 'elsewhere'));
    await writeCheckpoint(join(root, 'elsewhere'), 0, content(0));
    await symlink(join(root, 'elsewhere/checkpoint-0'), join(root, 'checkpoint-00'));
    expect(await pruneCheckpoints(root, 2)).toEqual([join(root, 'checkpoint-2')]);
    expect((await readdir(root)).sort()).toEqual(
      ['checkpoint-0', 'checkpoint-00', 'checkpoint-1', 'checkpoint-10', 'checkpoint-3', 'elsewhere'].sort(),
    );
    expect((await readCheckpoint(join(root, 'elsewhere/checkpoint-0'))).step).toBe(0);
  });

  it('counts the checkpoints of one run by their writing, and spares one', async () => {
    for (const [i, step] of [50, 40, 30, 20].entries())
      await writeCheckpoint(root, step, content(step), { run_id: 'mine', sequence: 10 + i });
    await writeCheckpoint(root, 99, content(99), { run_id: 'other', sequence: 3 });
    await writeCheckpoint(root, 98, content(98));
    await pruneCheckpoints(root, 1, { run_id: 'mine', spared: join(root, 'checkpoint-40') });
    expect((await readdir(root)).sort()).toEqual(['checkpoint-20', 'checkpoint-40', 'checkpoint-98', 'checkpoint-99']);
  });

  it('does not count truncated checkpoints as kept', async () => {
    for (const step of [1, 2, 3]) await writeCheckpoint(root, step, content(step));
    await truncate(join(root, 'checkpoint-3/state.safetensors'), 10);
    await pruneCheckpoints(root, 1);
    expect((await findLatestCheckpoint(root)).step).toBe(2);
    await expect(pruneCheckpoints(root, 0)).rejects.toThrow(InvalidArgumentError);
  });

  it("removes a dead writer's temporary folders once a checkpoint is there", async () => {
    const left = `.tmp-checkpoint-7-${machine}-${process.pid}-0123456789ab`;
    const onlyCopy = `.tmp-checkpoint-8.old-${machine}-${process.pid}-0123456789ab`;
    await mkdir(join(root, left));
    await writeCheckpoint(root, 8, content(8));
    await rename(join(root, 'checkpoint-8'), join(root, onlyCopy));
    await pruneCheckpoints(root, 1);
    expect((await readdir(root)).sort()).toEqual([left, onlyCopy].sort());
    await writeCheckpoint(root, 9, content(9));
    await pruneCheckpoints(root, 1);
    expect((await readdir(root)).sort()).toEqual([onlyCopy, 'checkpoint-9'].sort());
  });
});

describe('a writer killed with SIGKILL', () => {
  it('leaves only whole checkpoints, ten times', async () => {
    const writer = await compiledScript(new URL('./checkpoint-writer.ts', import.meta.url));
    const stream = new RandomStream(41);
    for (let round = 0; round < 10; round++) {
      const child = spawn(process.execPath, [writer, root], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await firstOutput(child);
      await delay(stream.integer(60));
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
      const { dir, step, skipped } = await findLatestCheckpoint(root);
      expect(skipped).toEqual([]);
      const { tensors } = await readCheckpoint(dir as string);
      expect(tensors.get('w')?.data.every((value) => value === step)).toBe(true);
    }
    await pruneCheckpoints(root, 1);
    expect(await readdir(root)).toHaveLength(1);
  });
});

function firstOutput(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve) => child.stdout?.once('data', resolve));
}
