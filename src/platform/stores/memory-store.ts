import { joinedBytes } from '../bytes.ts';
import { noSuchFile, type Store, type StoreEntry, type StoreFiles } from './store.ts';

/**
 * A store in memory, which is gone with the tab. It is the one that a browser starts with.
 *
 * @example
 * useStore(new MemoryStore());
 * await trainer.savePipeline('roll');
 */
export class MemoryStore implements Store {
  private readonly files = new Map<string, Uint8Array>();
  private readonly folders = new Set<string>(['/']);

  /** @param files what is in it, by path; default nothing. */
  constructor(files: StoreFiles = {}) {
    for (const [path, content] of Object.entries(files))
      this.put(
        `/${path.replace(/^\/+/, '')}`,
        typeof content === 'string' ? new TextEncoder().encode(content) : content,
      );
  }

  async stat(path: string): Promise<StoreEntry | undefined> {
    const file = this.files.get(path);
    if (file) return { kind: 'file', size: file.length };
    return this.folders.has(path) ? { kind: 'folder', size: 0 } : undefined;
  }

  async read(path: string, begin = 0, end?: number): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(this.file(path).subarray(begin, end));
  }

  async write(path: string, content: Uint8Array): Promise<void> {
    this.put(path, new Uint8Array(content));
  }

  async append(path: string, content: Uint8Array): Promise<void> {
    const before = this.files.get(path) ?? new Uint8Array();
    this.put(path, joinedBytes([before, content]));
  }

  async list(folder: string): Promise<string[]> {
    if (!this.folders.has(folder)) throw noSuchFile(folder);
    const below = this.below(folder).map((path) => path.slice(prefixOf(folder).length));
    return [...new Set(below.map((path) => path.split('/')[0] ?? ''))].sort();
  }

  async makeFolder(path: string): Promise<void> {
    for (let folder = path; !this.folders.has(folder); folder = parentOf(folder)) this.folders.add(folder);
  }

  async rename(from: string, to: string): Promise<void> {
    const moved = [from, ...this.below(from)];
    if (!this.files.has(from) && !this.folders.has(from)) throw noSuchFile(from);
    await this.makeFolder(parentOf(to));
    for (const path of moved) {
      const target = to + path.slice(from.length);
      const content = this.files.get(path);
      if (content) this.files.set(target, content);
      else this.folders.add(target);
      this.files.delete(path);
      this.folders.delete(path);
    }
  }

  async remove(path: string): Promise<void> {
    for (const gone of [path, ...this.below(path)]) {
      this.files.delete(gone);
      this.folders.delete(gone);
    }
  }

  private file(path: string): Uint8Array {
    const content = this.files.get(path);
    if (!content) throw noSuchFile(path);
    return content;
  }

  private put(path: string, content: Uint8Array): void {
    this.files.set(path, content);
    for (let folder = parentOf(path); !this.folders.has(folder); folder = parentOf(folder)) this.folders.add(folder);
  }

  /** Files and folders in a folder, and in those in it. */
  private below(folder: string): string[] {
    return [...this.files.keys(), ...this.folders].filter((path) => path.startsWith(prefixOf(folder)) && path !== '/');
  }
}

function prefixOf(folder: string): string {
  return folder === '/' ? '/' : `${folder}/`;
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}
