import { beforeEach, describe, expect, it } from 'vitest';
import { MemoryStore } from '../../src/platform/stores/memory-store.ts';
import { OpfsStore } from '../../src/platform/stores/opfs-store.ts';
import type { Store } from '../../src/platform/stores/store.ts';
import { AppendFile } from '../../src/platform/web/append-file.ts';
import * as fs from '../../src/platform/web/fs.ts';
import { fakeFolder } from './fake-opfs.ts';

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (content: string) => new TextEncoder().encode(content);

const stores: readonly [string, () => Store][] = [
  ['MemoryStore', () => new MemoryStore()],
  ['OpfsStore', () => OpfsStore.of(fakeFolder())],
  ['OpfsStore without move()', () => OpfsStore.of(fakeFolder({ movable: false }))],
];

describe.each(stores)('%s', (_name, make) => {
  let store: Store;
  beforeEach(() => {
    store = make();
  });

  it('reads what was written, whole and in part', async () => {
    await store.write('/runs/a/log', bytes('0123456789'));
    await store.append('/runs/a/log', bytes('ab'));
    expect(text(await store.read('/runs/a/log'))).toBe('0123456789ab');
    expect(text(await store.read('/runs/a/log', 2, 5))).toBe('234');
    expect(await store.stat('/runs/a/log')).toEqual({ kind: 'file', size: 12 });
    expect(await store.stat('/runs/a')).toMatchObject({ kind: 'folder' });
    expect(await store.stat('/runs/b')).toBeUndefined();
    expect(await store.stat('/runs/a/log/x')).toBeUndefined();
    await expect(store.read('/nothing')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(store.list('/nothing')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('does not share memory with the caller', async () => {
    const content = bytes('abc');
    await store.write('/x', content);
    content.fill(0);
    (await store.read('/x')).fill(0);
    expect(text(await store.read('/x'))).toBe('abc');
  });

  it('lists, moves and removes folders with what they hold', async () => {
    await store.write('/a/one', bytes('1'));
    await store.write('/a/b/two', bytes('2'));
    await store.makeFolder('/a/empty');
    expect(await store.list('/a')).toEqual(['b', 'empty', 'one']);
    await store.rename('/a', '/c/d');
    expect(await store.stat('/a')).toBeUndefined();
    expect(await store.list('/c/d')).toEqual(['b', 'empty', 'one']);
    expect(text(await store.read('/c/d/b/two'))).toBe('2');
    await store.remove('/c/d/b');
    await store.remove('/c/d/b');
    expect(await store.list('/c/d')).toEqual(['empty', 'one']);
    await expect(store.rename('/a', '/z')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('moves a file onto a file', async () => {
    await store.write('/new', bytes('new'));
    await store.write('/old', bytes('old'));
    await store.rename('/new', '/old');
    expect(text(await store.read('/old'))).toBe('new');
    expect(await store.list('/')).toEqual(['old']);
  });

  it('carries the file functions and the logs of this package', async () => {
    fs.useStore(store);
    expect(await fs.mkdir('runs/a/b', { recursive: true })).toBe('/runs');
    expect(await fs.mkdir('runs/a/b', { recursive: true })).toBeUndefined();
    await expect(fs.mkdir('runs')).rejects.toMatchObject({ code: 'EEXIST' });
    const handle = await fs.open('runs/a/b/file', 'wx');
    await fs.writeFile(handle, [bytes('ab'), bytes('cd')]);
    await expect(fs.open('runs/a/b/file', 'wx')).rejects.toMatchObject({ code: 'EEXIST' });
    const target = new Uint8Array(2);
    expect(await handle.read(target, 0, 2, 1)).toEqual({ bytesRead: 2 });
    expect(text(target)).toBe('bc');
    await expect(fs.rename('runs/a/b/file', 'runs/a')).rejects.toMatchObject({ code: 'ENOTEMPTY' });

    const log = new AppendFile('/runs/log', 'w');
    void log.append(bytes('one\n'));
    void log.append(bytes('two\n'));
    await log.close();
    const resumed = new AppendFile('/runs/log', 'a+');
    resumed.truncate((pieces) => text([...pieces][0] ?? new Uint8Array()).indexOf('two'));
    await resumed.append(bytes('three\n'));
    expect(text(await fs.readFile('/runs/log'))).toBe('one\nthree\n');
    await expect(new AppendFile('/runs/log', 'a+').append).toBeDefined();
    fs.useStore();
  });
});

describe('a store of a browser', () => {
  it('says where there is none', async () => {
    await expect(OpfsStore.open()).rejects.toThrow('there is no origin private file system here');
  });

  it('keeps what is unpacked only to be read out of the chosen store', async () => {
    const store = new MemoryStore();
    fs.useStore(store);
    const folder = await fs.mkdtemp(fs.temporaryPrefix());
    await fs.writeFile(`${folder}/x`, 'x');
    expect(await store.list('/')).toEqual([]);
    expect(text(await fs.readFile(`${folder}/x`))).toBe('x');
    fs.useStore();
  });
});
