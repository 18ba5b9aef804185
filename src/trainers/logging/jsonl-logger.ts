import { AppendFile } from '#platform/append-file';
import { FileFormatError } from '../../errors.ts';
import { joinedBytes } from '../../platform/bytes.ts';
import type { SettingChange } from '../checkpoint/run-identity.ts';
import type { RunLogger } from './run-logger.ts';

const newline = 0x0a;
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
  private readonly file: AppendFile;

  /**
   * @param options.resume_step keeps the records up to this step, and removes later ones and a torn last line: the log
   * of a resumed run equals the log of an unbroken one. Without it the log starts empty.
   * @throws {FileFormatError} if the file to resume is not such a log; it is then left as it is.
   */
  constructor(path: string, options: { resume_step?: number | undefined } = {}) {
    const { resume_step } = options;
    this.file = new AppendFile(path, resume_step === undefined ? 'w' : 'a+');
    if (resume_step !== undefined) this.file.truncate((pieces) => findEndOfStep(pieces, resume_step, path));
  }

  log(step: number, values: Readonly<Record<string, number>>): void | Promise<void> {
    return this.write({ step, ...values });
  }

  private write(record: object): void | Promise<void> {
    return this.file.append(new TextEncoder().encode(`${JSON.stringify(record)}\n`));
  }

  /** Writes `{"step":81,"changed":{"learning_rate":{"from":0.001,"to":0.0001}}}`. */
  note(step: number, changes: readonly SettingChange[]): void | Promise<void> {
    const changed = Object.fromEntries(changes.map(({ name, from, to }) => [name, { from, to }]));
    return this.write({ step, changed });
  }

  close(): void | Promise<void> {
    return this.file.close();
  }
}

/**
 * The byte offset of the first record after `step`, or else of the unfinished last line, or else of the end. Damaged
 * lines between good ones are kept: they are not worth the records that follow them.
 */
function findEndOfStep(pieces: Iterable<Uint8Array>, step: number, path: string): number {
  let pending = new Uint8Array();
  let lineStart = 0;
  for (const piece of pieces) {
    pending = joinedBytes([pending, piece]);
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
  return lineStart;
}

function stepOf(line: Uint8Array): number | undefined {
  try {
    const record: unknown = JSON.parse(new TextDecoder().decode(line));
    if (typeof record !== 'object' || record === null || !('step' in record)) return undefined;
    return typeof record.step === 'number' ? record.step : undefined;
  } catch {
    return undefined;
  }
}
