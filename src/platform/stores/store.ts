/*
 * Where files are kept in a browser. `output_dir`, the folder of `savePipeline` and every other path name a place in the
 * store that `useStore` chose. Paths are absolute and plain: `/runs/a/metrics.jsonl`.
 */

/** What a store knows of a file or folder without reading it. */
export interface StoreEntry {
  /** Whether it is a file or a folder. */
  readonly kind: 'file' | 'folder';
  /** Bytes of a file, 0 for a folder. */
  readonly size: number;
}

/**
 * Files by path. `MemoryStore` and `OpfsStore` are stores; one of your own, over IndexedDB or a server, needs these
 * members. Folders are there as soon as they are made, or hold something.
 */
export interface Store {
  /** What is at a path; undefined where there is nothing. */
  stat(path: string): Promise<StoreEntry | undefined>;
  /** The bytes of a file from `begin` to `end` (exclusive); defaults the whole. @throws an error where there is no file. */
  read(path: string, begin?: number, end?: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Writes a file whole: a reader sees the old content or the new one. Folders above it are made. */
  write(path: string, content: Uint8Array): Promise<void>;
  /** Adds to the end of a file, which is made where there is none. */
  append(path: string, content: Uint8Array): Promise<void>;
  /** The names in a folder. @throws an error where there is no folder. */
  list(folder: string): Promise<string[]>;
  /** Makes a folder and those above it; does nothing where it is there. */
  makeFolder(path: string): Promise<void>;
  /** Moves a file or a folder to a place where there is nothing; a file also onto a file. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder with all it holds; does nothing where there is nothing. */
  remove(path: string): Promise<void>;
}

/** Text and bytes of files by their path, as {@link MemoryStore} takes them. */
export type StoreFiles = Readonly<Record<string, string | Uint8Array>>;

/** @returns the error of a path with nothing at it, with the code that Node gives it. */
export function noSuchFile(path: string): Error {
  return Object.assign(new Error(`there is nothing at ${path}`), { code: 'ENOENT' });
}
