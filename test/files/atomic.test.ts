import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  interruptedReplacement,
  removeLeftovers,
  replaceDirectory,
  writeDirectoryAtomic,
  writeFileAtomic,
} from '../../src/files/atomic.ts';
import { thisProcess } from '../../src/files/process-identity.ts';

const { machine } = thisProcess();
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'iso-atomic-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

/** The id of a process that has ended. */
function deadPid(): number {
  return spawnSync(process.execPath, ['-e', '']).pid;
}

describe('writeFileAtomic', () => {
  it('writes strings, bytes and chunks, and makes missing folders', async () => {
    await writeFileAtomic(join(root, 'a/b/text'), 'grüße');
    await writeFileAtomic(join(root, 'bytes'), Uint8Array.of(0, 255));
    await writeFileAtomic(join(root, 'chunks'), [Uint8Array.of(1), new Uint8Array(), Uint8Array.of(2, 3)]);
    expect(await readFile(join(root, 'a/b/text'), 'utf8')).toBe('grüße');
    expect([...(await readFile(join(root, 'bytes')))]).toEqual([0, 255]);
    expect([...(await readFile(join(root, 'chunks')))]).toEqual([1, 2, 3]);
  });

  it('keeps the old content and leaves nothing behind when the source fails half-way', async () => {
    const path = join(root, 'file');
    await writeFile(path, 'old');
    const source = (function* () {
      yield Buffer.from('half');
      throw new Error('the source broke');
    })();
    await expect(writeFileAtomic(path, source)).rejects.toThrow('the source broke');
    expect(await readFile(path, 'utf8')).toBe('old');
    expect(await readdir(root)).toEqual(['file']);
  });

  it('writes through a symbolic link', async () => {
    await writeFile(join(root, 'real'), 'old');
    await symlink(join(root, 'real'), join(root, 'link'));
    await writeFileAtomic(join(root, 'link'), 'new');
    expect(await readFile(join(root, 'real'), 'utf8')).toBe('new');
  });

  it('lets concurrent writers of one file end with the whole content of one of them', async () => {
    const contents = Array.from({ length: 8 }, (_, i) => String(i).repeat(100_000));
    await Promise.all(contents.map((content) => writeFileAtomic(join(root, 'file'), content)));
    expect(contents).toContain(await readFile(join(root, 'file'), 'utf8'));
    expect(await readdir(root)).toEqual(['file']);
  });
});

describe('writeDirectoryAtomic', () => {
  it('replaces a folder as a whole: files of the old one are gone', async () => {
    const dir = join(root, 'out');
    await writeDirectoryAtomic(dir, (tmp) => writeFile(join(tmp, 'a'), '1'));
    await writeDirectoryAtomic(dir, (tmp) => writeFile(join(tmp, 'b'), '2'));
    expect(await readdir(dir)).toEqual(['b']);
    expect(await readdir(root)).toEqual(['out']);
  });

  it('keeps the old folder when filling the new one fails', async () => {
    const dir = join(root, 'out');
    await writeDirectoryAtomic(dir, (tmp) => writeFile(join(tmp, 'a'), '1'));
    const failing = writeDirectoryAtomic(dir, async (tmp) => {
      await writeFile(join(tmp, 'a'), 'damaged');
      throw new Error('no space');
    });
    await expect(failing).rejects.toThrow('no space');
    expect(await readFile(join(dir, 'a'), 'utf8')).toBe('1');
    expect(await readdir(root)).toEqual(['out']);
  });

  it('puts the old folder back when the second rename fails', async () => {
    const dir = join(root, 'out');
    await mkdir(dir);
    await writeFile(join(dir, 'a'), '1');
    await expect(replaceDirectory(join(root, 'missing'), dir)).rejects.toThrow('ENOENT');
    expect(await readFile(join(dir, 'a'), 'utf8')).toBe('1');
    expect(await readdir(root)).toEqual(['out']);
  });

  it('restores what a writer killed between the two renames had moved away', async () => {
    const dir = join(root, 'out');
    const moved = join(root, `.tmp-out.old-${machine}-${deadPid()}-0123456789ab`);
    await mkdir(moved);
    await writeFile(join(moved, 'a'), 'only copy');
    expect(await interruptedReplacement(dir)).toBe(moved);
    await expect(replaceDirectory(join(root, 'missing'), dir)).rejects.toThrow();
    expect(await readFile(join(dir, 'a'), 'utf8')).toBe('only copy');
  });
});

describe('removeLeftovers', () => {
  it('removes the folders of dead writers only', async () => {
    const dead = `.tmp-x-${machine}-${deadPid()}-0123456789ab`;
    const ofParent = `.tmp-x-${machine}-${process.ppid}-0123456789ab`;
    const otherLabel = `.tmp-y-${machine}-${deadPid()}-0123456789ab`;
    for (const name of [dead, ofParent, otherLabel, 'x', '.tmp-x']) await mkdir(join(root, name));
    await removeLeftovers(root, (label) => label === 'x');
    expect((await readdir(root)).sort()).toEqual([ofParent, otherLabel, 'x', '.tmp-x'].sort());
  });

  it('leaves what a writer on another machine may still be writing for an hour after its last change', async () => {
    const living = join(root, `.tmp-x-0123456789ab-${deadPid()}-0123456789ab`);
    await mkdir(living);
    await removeLeftovers(root, (label) => label === 'x');
    expect(await readdir(root)).toHaveLength(1);
    vi.useFakeTimers({ now: Date.now() + 2 * 3_600_000, toFake: ['Date'] });
    try {
      await removeLeftovers(root, (label) => label === 'x');
    } finally {
      vi.useRealTimers();
    }
    expect(await readdir(root)).toEqual([]);
  });

  it('does not touch what this process is writing', async () => {
    const dir = join(root, 'out');
    await writeDirectoryAtomic(dir, async (tmp) => {
      await removeLeftovers(root, () => true);
      await writeFile(join(tmp, 'a'), '1');
    });
    expect(await readdir(dir)).toEqual(['a']);
    await rename(dir, join(root, `.tmp-out-${machine}-${process.pid}-0123456789ab`));
    await removeLeftovers(root, () => true);
    expect(await readdir(root)).toEqual([]);
  });
});
