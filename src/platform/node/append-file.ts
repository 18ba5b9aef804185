import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

const PIECE_BYTES = 64 * 1024;

/** A file that is written from its beginning to its end. What is appended has reached the system when `append` returns. */
export class AppendFile {
  private readonly file: number;

  /** @param flags 'w' starts an empty file, 'wx' a new one, 'a+' goes on with the one that is there. */
  constructor(path: string, flags: 'w' | 'wx' | 'a+') {
    mkdirSync(dirname(path), { recursive: true });
    this.file = openSync(path, flags);
  }

  /**
   * Cuts the file off.
   *
   * @param endOf finds where, in the content, which comes in pieces. When it throws, the file is closed as it is.
   */
  truncate(endOf: (pieces: Iterable<Uint8Array>) => number): void {
    try {
      ftruncateSync(this.file, endOf(this.pieces()));
    } catch (error) {
      closeSync(this.file);
      throw error;
    }
  }

  append(bytes: Uint8Array): void | Promise<void> {
    for (let done = 0; done < bytes.length; ) done += writeSync(this.file, bytes, done);
  }

  /** Waits until all is on the disk. */
  close(): void | Promise<void> {
    fsyncSync(this.file);
    closeSync(this.file);
  }

  private *pieces(): Generator<Uint8Array> {
    for (let position = 0; ; ) {
      const piece = new Uint8Array(PIECE_BYTES);
      const length = readSync(this.file, piece, 0, PIECE_BYTES, position);
      if (length === 0) return;
      position += length;
      yield piece.subarray(0, length);
    }
  }
}
