import { append, readFile, stat, writeFile } from './fs.ts';

/** A file that is written from its beginning to its end. Stores answer later, so everything waits for what came before. */
export class AppendFile {
  private last: Promise<void>;

  /** @param flags 'w' starts an empty file, 'wx' a new one, 'a+' goes on with the one that is there. */
  constructor(
    private readonly path: string,
    flags: 'w' | 'wx' | 'a+',
  ) {
    this.last = this.begin(flags);
    this.last.catch(() => undefined);
  }

  /** Cuts the file off where `endOf` says. Its error is that of the next call. */
  truncate(endOf: (pieces: Iterable<Uint8Array>) => number): void {
    this.queue(async () => {
      const content = await readFile(this.path);
      const end = endOf(content.length > 0 ? [content] : []);
      if (end < content.length) await writeFile(this.path, content.subarray(0, end));
    });
  }

  append(bytes: Uint8Array): Promise<void> {
    return this.queue(() => append(this.path, bytes));
  }

  close(): Promise<void> {
    return this.queue(async () => undefined);
  }

  private async begin(flags: 'w' | 'wx' | 'a+'): Promise<void> {
    const there = await stat(this.path).catch(() => undefined);
    if (!there || flags !== 'a+') await writeFile(this.path, new Uint8Array());
  }

  private queue(work: () => Promise<void>): Promise<void> {
    this.last = this.last.then(work);
    // Whoever calls next sees the failure.
    this.last.catch(() => undefined);
    return this.last;
  }
}
