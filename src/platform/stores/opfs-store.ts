import { NotInBrowserError } from '../../errors.ts';
import { noSuchFile, type Store, type StoreEntry } from './store.ts';

/** Of Safari, Chromium and Firefox, but not yet in TypeScript's types. */
type MovableFile = FileSystemFileHandle & { move?(folder: FileSystemDirectoryHandle, name: string): Promise<void> };

/**
 * A store in the origin private file system of the browser, which is there again when the page is. A file is written
 * whole or not at all; a tab that is closed while a folder moves may leave a part of it, which checkpoints recognise by
 * their checksums.
 *
 * @example
 * useStore(await OpfsStore.open());
 * await trainer.train({ resume_from_checkpoint: 'latest' });
 */
export class OpfsStore implements Store {
  private constructor(private readonly root: FileSystemDirectoryHandle) {}

  /**
   * A store in a folder of the disk.
   *
   * @param folder a `FileSystemDirectoryHandle`, as `showDirectoryPicker()` gives it when the user has chosen one.
   */
  static of(folder: object): OpfsStore {
    return new OpfsStore(folder as FileSystemDirectoryHandle);
  }

  /**
   * @param folder the folder of the private file system that holds everything; default 'iso-diffusion'.
   * @throws {NotInBrowserError} where there is no such file system: in Node, and on pages without https.
   */
  static async open(folder = 'iso-diffusion'): Promise<OpfsStore> {
    const storage = globalThis.navigator?.storage;
    if (typeof storage?.getDirectory !== 'function')
      throw new NotInBrowserError(
        'there is no origin private file system here: it is in browsers, on pages of https:// or localhost',
      );
    const origin = await storage.getDirectory();
    return new OpfsStore(await origin.getDirectoryHandle(folder, { create: true }));
  }

  async stat(path: string): Promise<StoreEntry | undefined> {
    const handle = await this.handle(path);
    if (!handle) return undefined;
    return handle.kind === 'file' ? { kind: 'file', size: (await handle.getFile()).size } : { kind: 'folder', size: 0 };
  }

  async read(path: string, begin = 0, end?: number): Promise<Uint8Array<ArrayBuffer>> {
    const file = await (await this.file(path)).getFile();
    return new Uint8Array(await file.slice(begin, end ?? file.size).arrayBuffer());
  }

  async write(path: string, content: Uint8Array): Promise<void> {
    await this.put(path, content, false);
  }

  async append(path: string, content: Uint8Array): Promise<void> {
    await this.put(path, content, true);
  }

  async list(folder: string): Promise<string[]> {
    const handle = await this.handle(folder);
    if (handle?.kind !== 'directory') throw noSuchFile(folder);
    const names: string[] = [];
    for await (const name of handle.keys()) names.push(name);
    return names.sort();
  }

  async makeFolder(path: string): Promise<void> {
    await this.folder(path, true);
  }

  async rename(from: string, to: string): Promise<void> {
    const handle = await this.handle(from);
    if (!handle) throw noSuchFile(from);
    if (handle.kind === 'file') return this.moveFile(handle, from, to);
    await this.makeFolder(to);
    for (const name of await this.list(from)) await this.rename(`${from}/${name}`, `${to}/${name}`);
    await this.remove(from);
  }

  async remove(path: string): Promise<void> {
    const [parent, name] = split(path);
    const folder = await this.folder(parent).catch(missing);
    await folder?.removeEntry(name, { recursive: true }).catch(missing);
  }

  private async moveFile(file: MovableFile, from: string, to: string): Promise<void> {
    const [parent, name] = split(to);
    const folder = await this.folder(parent, true);
    // A folder that the user has chosen may not be able to move its files.
    const moved = await file.move?.(folder, name).then(
      () => true,
      () => false,
    );
    if (moved) return;
    await this.write(to, await this.read(from));
    await this.remove(from);
  }

  private async put(path: string, content: Uint8Array, append: boolean): Promise<void> {
    const [parent, name] = split(path);
    const handle = await (await this.folder(parent, true)).getFileHandle(name, { create: true });
    // What is written goes to a copy, which `close` puts in the file's place.
    const writable = await handle.createWritable({ keepExistingData: append });
    try {
      if (append) await writable.seek((await handle.getFile()).size);
      await writable.write(new Uint8Array(content));
    } catch (error) {
      await writable.abort().catch(missing);
      throw error;
    }
    await writable.close();
  }

  private async file(path: string): Promise<FileSystemFileHandle> {
    const handle = await this.handle(path);
    if (handle?.kind !== 'file') throw noSuchFile(path);
    return handle;
  }

  private async handle(path: string): Promise<FileSystemFileHandle | FileSystemDirectoryHandle | undefined> {
    if (path === '/') return this.root;
    const [parent, name] = split(path);
    const folder = await this.folder(parent).catch(missing);
    return (
      (await folder?.getDirectoryHandle(name).catch(missing)) ?? (await folder?.getFileHandle(name).catch(missing))
    );
  }

  private async folder(path: string, create = false): Promise<FileSystemDirectoryHandle> {
    let folder = this.root;
    for (const name of path.split('/').filter(Boolean)) folder = await folder.getDirectoryHandle(name, { create });
    return folder;
  }
}

function split(path: string): [parent: string, name: string] {
  const slash = path.lastIndexOf('/');
  return [path.slice(0, slash) || '/', path.slice(slash + 1)];
}

/** For what is not there, or is a file where a folder was looked for. @throws any other error. */
function missing(error: unknown): undefined {
  const { name } = error as Error;
  if (name !== 'NotFoundError' && name !== 'TypeMismatchError') throw error;
  return undefined;
}
