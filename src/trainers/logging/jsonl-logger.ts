import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { FileFormatError } from '../../errors.ts';
import type { SettingChange } from '../checkpoint/run-identity.ts';
import type { RunLogger } from './run-logger.ts';

const newline = 0x0a;
const pieceBytes = 64 * 1024;
/** A record has some 20 numbers; a file with longer lines is not one of our logs. */
const maxLineBytes = 1024 * 1024;

/**
 * Logs one JSON object a line: `{"step":10,"loss":0.5}`. Each record reaches the operating system before `log` returns,
 * so a killed process loses none. Images and evaluations, which come in their own time, are not in it. NaN and infinities
 * are written as `null`, for which JSON has no number.
 *
 * @example
 * const logger = new JsonlLogger('run/metrics.jsonl', { resume_step: 500 });
 * logger.log(510, { loss: 0.42 });
 */
export class JsonlLogger implements RunLogger {
  private readonly file: number;

  /**
   * @param options.resume_step keeps the records up to this step, and removes later ones and a torn last line: the log
   * of a resumed run equals the log of an unbroken one. Without it the log starts empty.
   * @throws {FileFormatError} if the file to resume is not such a log; it is then left as it is.
   */
  constructor(path: string, options: { resume_step?: number | undefined } = {}) {
    mkdirSync(dirname(path), { recursive: true });
    this.file = openSync(path, options.resume_step === undefined ? 'w' : 'a+');
    if (options.resume_step === undefined) return;
    try {
      ftruncateSync(this.file, findEndOfStep(this.file, options.resume_step, path));
    } catch (error) {
      closeSync(this.file);
      throw error;
    }
  }

  log(step: number, values: Readonly<Record<string, number>>): void {
    this.write({ step, ...values });
  }

  private write(record: object): void {
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    for (let done = 0; done < line.length; ) done += writeSync(this.file, line, done);
  }

  /** Writes `{"step":81,"changed":{"learning_rate":{"from":0.001,"to":0.0001}}}`. */
  note(step: number, changes: readonly SettingChange[]): void {
    const changed = Object.fromEntries(changes.map(({ name, from, to }) => [name, { from, to }]));
    this.write({ step, changed });
  }

  close(): void {
    fsyncSync(this.file);
    closeSync(this.file);
  }
}

/**
 * The byte offset of the first record after `step`, or else of the unfinished last line, or else of the end. Damaged
 * lines between good ones are kept: they are not worth the records that follow them.
 */
function findEndOfStep(file: number, step: number, path: string): number {
  const piece = Buffer.alloc(pieceBytes);
  let pending = Buffer.alloc(0);
  let lineStart = 0;
  for (let position = 0; ; ) {
    const length = readSync(file, piece, 0, pieceBytes, position);
    if (length === 0) return lineStart;
    position += length;
    pending = Buffer.concat([pending, piece.subarray(0, length)]);
    for (let end = pending.indexOf(newline); end >= 0; end = pending.indexOf(newline)) {
      const recorded = stepOf(pending.subarray(0, end));
      if (recorded !== undefined && recorded > step) return lineStart;
      pending = pending.subarray(end + 1);
      lineStart += end + 1;
    }
    if (pending.length > maxLineBytes) {
      throw new FileFormatError(
        `${path} has a line of more than ${maxLineBytes} bytes, so it is not a log of this package. Choose another file.`,
      );
    }
  }
}

function stepOf(line: Buffer): number | undefined {
  try {
    const record: unknown = JSON.parse(line.toString());
    if (typeof record !== 'object' || record === null || !('step' in record)) return undefined;
    return typeof record.step === 'number' ? record.step : undefined;
  } catch {
    return undefined;
  }
}
