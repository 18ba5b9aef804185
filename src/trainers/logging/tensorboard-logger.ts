import { closeSync, fsyncSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import protobuf from 'protobufjs/light.js';
import type { MetricsLogger } from './metrics-logger.ts';

/**
 * The part of TensorFlow's event.proto and summary.proto that scalars need
 * (https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto, Apache-2.0).
 */
const root = protobuf.Root.fromJSON({
  nested: {
    Event: {
      fields: {
        wallTime: { type: 'double', id: 1 },
        step: { type: 'int64', id: 2 },
        fileVersion: { type: 'string', id: 3 },
        summary: { type: 'Summary', id: 5 },
        sessionLog: { type: 'SessionLog', id: 7 },
      },
    },
    Summary: {
      fields: { value: { rule: 'repeated', type: 'Value', id: 1 } },
      nested: {
        Value: {
          fields: { tag: { type: 'string', id: 1 }, simpleValue: { type: 'float', id: 2 } },
          // As in summary.proto: without the oneof, a value of 0 would not be written at all.
          oneofs: { value: { oneof: ['simpleValue'] } },
        },
      },
    },
    SessionLog: { fields: { status: { type: 'int32', id: 1 } } },
  },
});
const eventType = root.lookupType('Event');

/** SessionLog.SessionStatus.START: TensorBoard then drops the events of earlier files at this step and later. */
const sessionStart = 1;

/** The number of files that this process made: two loggers opened within one second need different names. */
let fileCount = 0;

/**
 * Logs scalars to an event file that TensorBoard reads. Every logger writes a file of its own in `dir`; TensorBoard
 * shows the files of a folder as one run. Values are stored as float32, as TensorBoard's scalars are.
 *
 * @example
 * const logger = new TensorBoardLogger('run/tensorboard');
 * logger.log(10, { 'train/loss': 0.5 });
 * logger.close();
 */
export class TensorBoardLogger implements MetricsLogger {
  /** Path of the event file. */
  readonly path: string;
  private readonly file: number;

  /** @param options.resume_step the step a resumed run starts from; what was logged after it is hidden. */
  constructor(dir: string, options: { resume_step?: number | undefined } = {}) {
    mkdirSync(dir, { recursive: true });
    const seconds = Math.floor(Date.now() / 1000)
      .toString()
      .padStart(10, '0');
    this.path = join(dir, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.${fileCount++}`);
    this.file = openSync(this.path, 'wx');
    this.write({ fileVersion: 'brain.Event:2' });
    if (options.resume_step !== undefined) {
      this.write({ step: options.resume_step + 1, sessionLog: { status: sessionStart } });
    }
  }

  log(step: number, values: Readonly<Record<string, number>>): void {
    const value = Object.entries(values).map(([tag, simpleValue]) => ({ tag, simpleValue }));
    this.write({ step, summary: { value } });
  }

  flush(): void {
    fsyncSync(this.file);
  }

  close(): void {
    this.flush();
    closeSync(this.file);
  }

  private write(event: Record<string, unknown>): void {
    const message = eventType.create({ wallTime: Date.now() / 1000, ...event });
    const record = frameRecord(eventType.encode(message).finish());
    for (let done = 0; done < record.length; ) done += writeSync(this.file, record, done);
  }
}

/**
 * Frames one TFRecord: length (u64), masked CRC of the length, data, masked CRC of the data, all little-endian
 * (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
 */
function frameRecord(data: Uint8Array): Buffer {
  const record = Buffer.alloc(16 + data.length);
  record.writeBigUInt64LE(BigInt(data.length), 0);
  record.writeUInt32LE(maskedCrc(record.subarray(0, 8)), 8);
  record.set(data, 12);
  record.writeUInt32LE(maskedCrc(data), 12 + data.length);
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
