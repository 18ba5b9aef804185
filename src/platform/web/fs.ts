import { NotInBrowserError } from '../../errors.ts';
import { joinedBytes } from '../bytes.ts';
import { MemoryStore } from '../stores/memory-store.ts';
import { noSuchFile, type Store } from '../stores/store.ts';
import { join, resolve } from './path.ts';

/*
 * What this package uses of node:fs/promises, over the store of the page. There are no links, rights or times, and a
 * store has written what it says it has: `sync` has nothing to wait for.
 */

let current: Store = new MemoryStore();

/** For what is unpacked only to be read, whatever the store is. */
const temporary = new MemoryStore();
const TEMPORARY = '/tmp/iso-diffusion-';

/**
 * Chooses where this page keeps its files: from now on every path names a place in this store. In Node it is the file
 * system, always.
 *
 * @param store default a new `MemoryStore`.
 */
export function useStore(store: Store = new MemoryStore()): void {
  current = store;
}

function at(path: string): [store: Store, path: string] {
  const full = resolve(path);
  return [full.startsWith(TEMPORARY) ? temporary : current, full];
}

type Content = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

async function bytesOf(content: Content): Promise<Uint8Array> {
  if (typeof content === 'string') return new TextEncoder().encode(content);
  if (content instanceof Uint8Array) return content;
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part.slice());
  return joinedBytes(parts);
}

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

/** A file or folder, as far as it is asked for. */
class Status {
  readonly mtimeMs = Date.now();
  readonly ctimeMs = Date.now();
  constructor(
    private readonly kind: 'file' | 'folder',
    readonly size: number,
  ) {}
  isFile = () => this.kind === 'file';
  isDirectory = () => this.kind === 'folder';
  isSymbolicLink = () => false;
}

export async function stat(path: string): Promise<Status> {
  const [store, full] = at(path);
  const entry = await store.stat(full);
  if (!entry) throw noSuchFile(full);
  return new Status(entry.kind, entry.size);
}

export const lstat = stat;

export async function realpath(path: string): Promise<string> {
  await stat(path);
  return resolve(path);
}

export async function readlink(path: string): Promise<string> {
  throw failure('EINVAL', path);
}

/** @returns the first folder that was made, as Node does with `recursive`. */
export async function mkdir(path: string, { recursive = false } = {}): Promise<string | undefined> {
  const [store, full] = at(path);
  const there = await store.stat(full);
  if (there && !(recursive && there.kind === 'folder')) throw failure('EEXIST', full);
  if (there) return undefined;
  let first = full;
  for (let above = join(full, '..'); !(await store.stat(above)); above = join(above, '..')) first = above;
  await store.makeFolder(full);
  return first;
}

let folders = 0;

export async function mkdtemp(prefix: string): Promise<string> {
  const folder = `${prefix}${Date.now().toString(36)}-${folders++}`;
  await mkdir(folder, { recursive: true });
  return folder;
}

export const temporaryPrefix = (): string => TEMPORARY;

export function readdir(path: string): Promise<string[]>;
export function readdir(path: string, options: { withFileTypes: true }): Promise<(Status & { name: string })[]>;
export async function readdir(path: string, options?: { withFileTypes: true }) {
  const [store, full] = at(path);
  const names = await store.list(full);
  if (!options) return names;
  return Promise.all(names.map(async (name) => Object.assign(await stat(join(full, name)), { name })));
}

export function readFile(path: string): Promise<Uint8Array>;
export function readFile(path: string, encoding: 'utf8'): Promise<string>;
export async function readFile(path: string, encoding?: 'utf8'): Promise<Uint8Array | string> {
  const [store, full] = at(path);
  const bytes = await store.read(full);
  return encoding ? new TextDecoder().decode(bytes) : bytes;
}

export async function writeFile(path: string | FileHandle, content: Content): Promise<void> {
  if (typeof path !== 'string') return path.writeFile(content);
  const [store, full] = at(path);
  await store.write(full, await bytesOf(content));
}

export async function append(path: string, content: Uint8Array): Promise<void> {
  const [store, full] = at(path);
  await store.append(full, content);
}

export async function rename(from: string, to: string): Promise<void> {
  const [store, source] = at(from);
  const target = resolve(to);
  const there = await store.stat(target);
  if (there?.kind === 'folder') {
    if ((await store.list(target)).length > 0) throw failure('ENOTEMPTY', target);
    await store.remove(target);
  }
  await store.rename(source, target);
}

export async function copyFile(from: string, to: string): Promise<void> {
  await writeFile(to, await readFile(from));
}

export async function rm(path: string, { force = false } = {}): Promise<void> {
  const [store, full] = at(path);
  if (!force && !(await store.stat(full))) throw noSuchFile(full);
  await store.remove(full);
}

export async function rmdir(path: string): Promise<void> {
  if ((await readdir(path)).length > 0) throw failure('ENOTEMPTY', path);
  await rm(path);
}

/** A file that is read in pieces, or was just made. */
class FileHandle {
  constructor(
    private readonly store: Store,
    private readonly path: string,
  ) {}

  stat(): Promise<Status> {
    return stat(this.path);
  }

  async read(target: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }> {
    const bytes = await this.store.read(this.path, position, position + length);
    target.set(bytes, offset);
    return { bytesRead: bytes.length };
  }

  async writeFile(content: Content): Promise<void> {
    await this.store.write(this.path, await bytesOf(content));
  }

  async sync(): Promise<void> {}
  async close(): Promise<void> {}
}

/** @param flags 'wx' makes a new file; anything else reads. */
export async function open(path: string, flags?: string | number): Promise<FileHandle> {
  const [store, full] = at(path);
  const there = await store.stat(full);
  if (flags === 'wx') {
    if (there) throw failure('EEXIST', full);
    await store.write(full, new Uint8Array());
  } else if (!there) throw noSuchFile(full);
  return new FileHandle(store, full);
}

export function openForReading(path: string): never {
  throw new NotInBrowserError(`${path} cannot be read without waiting: a store answers later`);
}

/** The bytes of a file, a piece at a time. */
export async function* createReadStream(path: string, { highWaterMark = 2 ** 20 } = {}): AsyncGenerator<Uint8Array> {
  const [store, full] = at(path);
  const { size } = await stat(full);
  for (let begin = 0; begin < size; begin += highWaterMark)
    yield store.read(full, begin, Math.min(size, begin + highWaterMark));
}

export const constants = { O_RDONLY: 0, O_NONBLOCK: 0 };
