import { DatasetError, errorText } from '../../../errors.ts';

/** A file or folder that was dropped: `FileSystemEntry` of browsers. */
interface DroppedEntry {
  readonly isFile: boolean;
  readonly fullPath: string;
}
interface FileEntry extends DroppedEntry {
  file(use: (file: File) => void, refuse: (error: Error) => void): void;
}
interface FolderEntry extends DroppedEntry {
  createReader(): { readEntries(use: (entries: DroppedEntry[]) => void, refuse: (error: Error) => void): void };
}

/** One of `dataTransfer.items`: `DataTransferItem` of browsers. */
export interface DroppedItem {
  /** The file or folder; null for text. */
  webkitGetAsEntry(): DroppedEntry | null;
}

/**
 * The files that were dropped on a page, those in dropped folders too. Such a file has its path below the place that was
 * dropped in `webkitRelativePath`, where `loadImages` finds its class. It has to be called before the first `await` of
 * the handler, after which a browser has emptied the list.
 *
 * @param items `dataTransfer.items` of the event.
 * @throws {DatasetError} when a folder or a file cannot be read.
 * @example
 * document.addEventListener('drop', async (event) => {
 *   event.preventDefault();
 *   const files = await droppedFiles(event.dataTransfer.items);
 *   const set = await loadImages(files, { resolution: 32 });
 * });
 */
export async function droppedFiles(items: ArrayLike<DroppedItem>): Promise<File[]> {
  const entries = Array.from(items, (item) => item.webkitGetAsEntry());
  const found: File[] = [];
  for (const entry of entries) if (entry) for await (const file of filesIn(entry)) found.push(file);
  return found;
}

async function* filesIn(entry: DroppedEntry): AsyncGenerator<File> {
  try {
    if (isFile(entry)) {
      const file = await new Promise<File>((resolve, reject) => entry.file(resolve, reject));
      const path = entry.fullPath.replace(/^\//, '');
      yield path.includes('/') ? Object.defineProperty(file, 'webkitRelativePath', { value: path }) : file;
      return;
    }
    const reader = (entry as FolderEntry).createReader();
    // Chromium gives 100 entries at a time; none are the end.
    for (let more = true; more; ) {
      const batch = await new Promise<DroppedEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
      for (const one of batch) yield* filesIn(one);
      more = batch.length > 0;
    }
  } catch (cause) {
    if (cause instanceof DatasetError) throw cause;
    throw new DatasetError(`${entry.fullPath} cannot be read: ${errorText(cause)}`, { cause });
  }
}

const isFile = (entry: DroppedEntry): entry is FileEntry => entry.isFile;
