import { spawn } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { withFolderLock } from '../../src/files/folder-lock.ts';
import { thisProcess } from '../../src/files/process-identity.ts';

let root: string;
let lock: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'iso-lock-'));
  lock = path.join(root, '.iso-diffusion.lock');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const tryLock = () => withFolderLock(root, 'go elsewhere', async () => 'locked');

/** The lock of an owner as it lies on the disk, renewed so many seconds ago by the disk's clock. */
function lockOf(owner: object, secondsAgo: number): void {
  mkdirSync(lock);
  const file = path.join(lock, 'owner.json');
  writeFileSync(file, JSON.stringify({ ...thisProcess(), ...owner }));
  const time = Date.now() / 1000 - secondsAgo;
  utimesSync(file, time, time);
}
const elsewhere = { host: 'other-machine', machine: '0123456789ab' };
/** Above the largest process id of Linux, 2^22. */
const NO_PROCESS = 2 ** 22 + 1;

describe('withFolderLock', () => {
  it('lets one work in at a time, names it, and leaves nothing behind', async () => {
    await withFolderLock(root, 'go elsewhere', async (held) => {
      const [file = ''] = readdirSync(lock);
      expect(JSON.parse(readFileSync(path.join(lock, file), 'utf8'))).toMatchObject({
        host: hostname(),
        pid: process.pid,
      });
      await expect(tryLock()).rejects.toThrow(InvalidArgumentError);
      await expect(tryLock()).rejects.toThrow(
        `${root} is in use by this process, process ${process.pid} of this host, '${hostname()}'`,
      );
      await expect(tryLock()).rejects.toThrow('or go elsewhere');
      await held.refuseIfLost();
    });
    expect(readdirSync(root)).toEqual([]);
    await expect(withFolderLock(root, '', () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    expect(readdirSync(root)).toEqual([]);
  });

  it('removes the folders that it made where nothing was written into them', async () => {
    await withFolderLock(path.join(root, 'a/b'), '', async () => undefined);
    expect(readdirSync(root)).toEqual([]);
    await withFolderLock(path.join(root, 'a/b'), '', async () => writeFileSync(path.join(root, 'a/b/c'), ''));
    expect(readdirSync(path.join(root, 'a/b'))).toEqual(['c']);
  });

  it('is renewed every ten seconds', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      await withFolderLock(root, '', async () => {
        const file = path.join(lock, readdirSync(lock)[0] ?? '');
        const text = readFileSync(file, 'utf8');
        utimesSync(file, 1, 1);
        await vi.advanceTimersByTimeAsync(10_000);
        await vi.waitFor(() => expect(statSync(file).mtimeMs).toBeGreaterThan(1e9), 30_000);
        expect(readFileSync(file, 'utf8')).toBe(text);
      });
    } finally {
      vi.useRealTimers();
    }
  });

  it('lets in one of many that come at once', async () => {
    let inside = 0;
    let refused = 0;
    const haveAllTried = async () => {
      while (inside + refused < 20) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const works = Array.from({ length: 20 }, () =>
      withFolderLock(root, '', () => {
        inside += 1;
        return haveAllTried();
      }).catch(() => {
        refused += 1;
      }),
    );
    await Promise.all(works);
    expect({ inside, refused }).toEqual({ inside: 1, refused: 19 });
  });

  it('takes the lock over at once from a process of this machine that was killed', async () => {
    const script = fileURLToPath(new URL('./hold-lock.ts', import.meta.url));
    const child = spawn(process.execPath, ['--import', 'tsx', script, root], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    await expect(tryLock()).rejects.toThrow(`process ${child.pid} of this host`);
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await exited;
    const start = performance.now();
    // Of several that see the dead owner at once, one wins.
    const results = await Promise.allSettled(Array.from({ length: 5 }, tryLock));
    expect(results.some(({ status }) => status === 'fulfilled')).toBe(true);
    // Not after the hour that a process of another machine has.
    expect(performance.now() - start).toBeLessThan(60_000);
    expect(readdirSync(root)).toEqual([]);
  }, 90_000);

  it.runIf(process.platform === 'linux')(
    'takes it over from a killed process whose parent never asks how it ended',
    async () => {
      const script = fileURLToPath(new URL('./hold-lock.ts', import.meta.url));
      const holder = [process.execPath, '--import', 'tsx', script, root];
      // The shell becomes `sleep`, which does not collect its children: the killed one stays in the list of processes.
      const parent = spawn('sh', ['-c', '"$0" "$@" & exec sleep 60', ...holder], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      try {
        await new Promise((resolve) => parent.stdout.once('data', resolve));
        const [file = ''] = readdirSync(lock);
        const { pid } = JSON.parse(readFileSync(path.join(lock, file), 'utf8'));
        process.kill(pid, 'SIGKILL');
        await vi.waitFor(() => expect(readFileSync(`/proc/${pid}/stat`, 'utf8')).toContain(') Z '), 30_000);
        expect(await tryLock()).toBe('locked');
      } finally {
        parent.kill();
      }
    },
    90_000,
  );

  it.runIf(process.platform === 'linux')(
    'takes it over from an owner whose process id another process got',
    async () => {
      lockOf({ pid: process.ppid, started: '1' }, 0);
      expect(await tryLock()).toBe('locked');
    },
  );

  it.each([
    ['renewed just now', {}, 0],
    ['of a process id that is free here', { pid: NO_PROCESS }, 5],
    ['silent for half an hour, as a process that was suspended', {}, 1800],
    ['of a host with a clock that is ahead', {}, -1000],
    ['of a container of the same name', { host: hostname() }, 60],
  ])('never takes it from a process of another machine: %s', async (_, owner, secondsAgo) => {
    lockOf({ ...elsewhere, pid: 77, ...owner }, secondsAgo);
    const { host, pid } = { ...elsewhere, pid: 77, ...owner };
    await expect(tryLock()).rejects.toThrow(`is in use by process ${pid} of host '${host}'`);
    await expect(tryLock()).rejects.toThrow(`If that process has ended, delete ${lock}`);
    expect(readdirSync(lock)).toEqual(['owner.json']);
  });

  it('takes it from a process of another machine that was silent for more than an hour', async () => {
    lockOf({ ...elsewhere, pid: 77 }, 3700);
    expect(await tryLock()).toBe('locked');
    expect(readdirSync(root)).toEqual([]);
  });

  it('does not let a holder write that lost its lock', async () => {
    await withFolderLock(root, '', async (held) => {
      rmSync(lock, { recursive: true });
      await held.refuseIfLost();
      lockOf(elsewhere, 0);
      await expect(held.refuseIfLost()).rejects.toThrow('another process took over');
    });
    expect(readdirSync(lock)).toEqual(['owner.json']);
  });

  it.each(['', '[]', 'x'.repeat(5000), '{"pid":-1}'])(
    'is held by whoever wrote a lock that cannot be read',
    async (text) => {
      mkdirSync(lock);
      writeFileSync(path.join(lock, 'owner.json'), text);
      await expect(tryLock()).rejects.toThrow('a process that cannot be identified');
    },
  );

  it('takes an empty lock, which nobody holds, and refuses a file in its place', async () => {
    mkdirSync(lock);
    expect(await tryLock()).toBe('locked');
    writeFileSync(lock, '');
    await expect(tryLock()).rejects.toThrow(/ENOTDIR|EEXIST/);
    expect(readdirSync(root)).toEqual(['.iso-diffusion.lock']);
  });
});
