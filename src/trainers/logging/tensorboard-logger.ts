import { AppendFile } from '#platform/append-file';
import { join } from '#platform/path';
import { thisProcess } from '#platform/process';
import type { LoggedRun, RunLogger, RunOutcome } from './run-logger.ts';
import { encodeEvent, imageValue, sessionEnd, sessionStart, textValue } from './tensorboard-events.ts';

/** SessionLog.SessionStatus.START: TensorBoard then drops the events of earlier files at this step and later. */
const SESSION_START = 1;

/** The number of files that this process made: two loggers opened within one second need different names. */
let fileCount = 0;

/**
 * Logs to an event file that TensorBoard reads: scalars, evaluations as `evaluation/<name>`, images, and the settings as
 * text and as hyperparameters. Every logger writes a file of its own in `dir`; TensorBoard shows the files of a folder as
 * one run. Scalars are stored as float32, as TensorBoard's are.
 *
 * @example
 * const logger = new TensorBoardLogger('run/tensorboard');
 * logger.log(10, { 'train/loss': 0.5 });
 * logger.close();
 */
export class TensorBoardLogger implements RunLogger {
  /** Path of the event file. */
  readonly path: string;
  private readonly file: AppendFile;

  /** @param options.resume_step the step a resumed run starts from; what was logged after it is hidden. */
  constructor(dir: string, options: { resume_step?: number | undefined } = {}) {
    const seconds = Math.floor(Date.now() / 1000)
      .toString()
      .padStart(10, '0');
    const { host, pid } = thisProcess();
    this.path = join(dir, `events.out.tfevents.${seconds}.${host}.${pid}.${fileCount++}`);
    this.file = new AppendFile(this.path, 'wx');
    this.write({ fileVersion: 'brain.Event:2' });
    if (options.resume_step !== undefined) {
      this.write({ step: options.resume_step + 1, sessionLog: { status: SESSION_START } });
    }
  }

  begin({ settings, global_step }: LoggedRun): void | Promise<void> {
    const rows = Object.entries(settings).map(([name, value]) => `| ${cell(name)} | ${cell(String(value))} |`);
    const table = ['| setting | value |', '|---|---|', ...rows].join('\n');
    return this.summary(global_step, [textValue('settings', table), sessionStart(settings)]);
  }

  log(step: number, values: Readonly<Record<string, number>>): void | Promise<void> {
    return this.summary(
      step,
      Object.entries(values).map(([tag, simpleValue]) => ({ tag, simpleValue })),
    );
  }

  logEvaluation(step: number, values: Readonly<Record<string, number>>): void | Promise<void> {
    return this.log(
      step,
      Object.fromEntries(Object.entries(values).map(([name, value]) => [`evaluation/${name}`, value])),
    );
  }

  logImage(step: number, name: string, png: Uint8Array): void | Promise<void> {
    return this.summary(step, [imageValue(name, png)]);
  }

  /** @param outcome stands in the table of hyperparameters; a run that is interrupted has none yet. */
  close(outcome: RunOutcome = 'interrupted'): void | Promise<void> {
    if (outcome !== 'interrupted') void this.summary(0, [sessionEnd(outcome)]);
    return this.file.close();
  }

  private summary(step: number, value: readonly object[]): void | Promise<void> {
    return this.write({ step, summary: { value } });
  }

  private write(event: Record<string, unknown>): void | Promise<void> {
    return this.file.append(frameRecord(encodeEvent(event)));
  }
}

/** Text of one cell of a Markdown table. */
function cell(text: string): string {
  return text.replaceAll(/[\r\n]+/g, ' ').replaceAll('|', '\\|');
}

/**
 * Frames one TFRecord: length (u64), masked CRC of the length, data, masked CRC of the data, all little-endian
 * (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
 */
function frameRecord(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(16 + data.length);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc(data), true);
  return record;
}

/** TensorFlow masks CRCs because the CRC of data that contains its own CRC is a weak check. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** CRC-32C (Castagnoli), reflected polynomial 0x82f63b78, as RFC 3720 and the TFRecord format use it. */
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? 0x82f63b78 : 0);
  return remainder;
});

export function crc32c(bytes: Uint8Array): number {
  let remainder = 0xffffffff;
  for (const byte of bytes) remainder = (remainder >>> 8) ^ (table[(remainder ^ byte) & 0xff] as number);
  return (remainder ^ 0xffffffff) >>> 0;
}
