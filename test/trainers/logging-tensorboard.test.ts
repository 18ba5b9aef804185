import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import protobuf from 'protobufjs/light.js';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { crc32c, TensorBoardLogger } from '../../src/trainers/logging/tensorboard-logger.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'iso-tensorboard-'));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(root, { recursive: true, force: true });
});

type Field = number | Buffer;

/** The events of a file, each as its bytes; the checksums are those of the test above. */
function eventsOf(file: string): Buffer[] {
  const bytes = readFileSync(file);
  const events: Buffer[] = [];
  for (let from = 0; from < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(from));
    events.push(bytes.subarray(from + 12, from + 12 + length));
    from += 16 + length;
  }
  return events;
}

/** All values under a path of field numbers, by the wire format alone: varints, fixed numbers and bytes. */
function at(message: Field | undefined, ...path: readonly number[]): Field[] {
  if (path.length === 0) return message === undefined ? [] : [message];
  if (!Buffer.isBuffer(message)) throw new Error('not a message');
  const [field, ...rest] = path;
  const reader = protobuf.Reader.create(message);
  const found: Field[] = [];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const kind = tag & 7;
    const value =
      kind === 0
        ? Number(reader.int64())
        : kind === 1
          ? reader.double()
          : kind === 5
            ? reader.float()
            : Buffer.from(reader.bytes());
    if (tag >>> 3 === field) found.push(value);
  }
  return found.flatMap((value) => at(value, ...rest));
}

const text1 = (message: Field | undefined, ...path: readonly number[]) => String(at(message, ...path)[0]);

describe('crc32c', () => {
  it('gives the check values of RFC 3720, appendix B.4, and of the CRC catalogue', () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array())).toBe(0);
  });
});

describe('TensorBoardLogger', () => {
  it("writes the bytes that TensorFlow's own encoder wrote for the same events", () => {
    // From tests/test_tensorboard_logger.py of TeamHG-Memex/tensorboard_logger (test_serialization): wall time 256.5.
    vi.spyOn(Date, 'now').mockReturnValue(256_500);
    const logger = new TensorBoardLogger(root);
    logger.log(1, { 'v/1': 1.5 });
    logger.log(2, { 'v/22': 16 });
    logger.close();
    const expected =
      '\x18\x00\x00\x00\x00\x00\x00\x00\xa3\x7fK"\t\x00\x00\x00\x00\x00\x08p@\x1a\rbrain.Event:2\xbc\x98!+' +
      '\x19\x00\x00\x00\x00\x00\x00\x00\x8b\xf1\x08(\t\x00\x00\x00\x00\x00\x08p@\x10\x01*\x0c\n\n\n\x03v/1' +
      '\x15\x00\x00\xc0?,\xec\xc0\x87' +
      '\x1a\x00\x00\x00\x00\x00\x00\x00\x12\x9b\xd8-\t\x00\x00\x00\x00\x00\x08p@\x10\x02*\r\n\x0b\n\x04v/22' +
      '\x15\x00\x00\x80A\x8f\xa3\xb6\x88';
    expect(readFileSync(logger.path, 'latin1')).toBe(expected);
  });

  it('names each file so that TensorBoard finds it', () => {
    const loggers = [new TensorBoardLogger(join(root, 'a/b')), new TensorBoardLogger(join(root, 'a/b'))];
    for (const logger of loggers) logger.close();
    expect(readdirSync(join(root, 'a/b')).sort()).toEqual(loggers.map(({ path }) => basename(path)).sort());
    for (const { path } of loggers) expect(basename(path)).toMatch(/^events\.out\.tfevents\.\d{10}\..+/);
  });

  it('on resume tells TensorBoard to drop the later steps of earlier files', () => {
    const logger = new TensorBoardLogger(root, { resume_step: 500 });
    logger.close();
    const file = readFileSync(logger.path);
    const second = file.subarray(16 + Number(file.readBigUInt64LE(0)));
    const reader = protobuf.Reader.create(second.subarray(12, second.length - 4));
    const fields = new Map<number, unknown>();
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if ((tag & 7) === 1) fields.set(tag >>> 3, reader.double());
      else if ((tag & 7) === 0) fields.set(tag >>> 3, Number(reader.int64()));
      else fields.set(tag >>> 3, [...reader.bytes()]);
    }
    // event.proto: step = 2; session_log = 7, in it status = 1 (field 1, varint: tag 8) with START = 1.
    expect(fields.get(2)).toBe(501);
    expect(fields.get(7)).toEqual([8, 1]);
  });

  it('writes settings, evaluations and images, which a reader of the wire format finds under the published numbers', async () => {
    const png = await sharp({ create: { width: 7, height: 5, channels: 3, background: '#204060' } })
      .png()
      .toBuffer();
    const logger = new TensorBoardLogger(root);
    const settings = { 'loss.lambda': 0.1, optim: 'adam|w', use_ema: false };
    logger.begin({ output_dir: root, global_step: 3, max_steps: 9, settings });
    logger.logEvaluation(4, { fid: 2.5 });
    logger.logImage(5, 'samples', png);
    logger.close('completed');
    const [, start, evaluation, image, end] = eventsOf(logger.path);

    // event.proto: step 2, summary 5; summary.proto: value 1, in it tag 1, simple_value 2, image 4, tensor 8, metadata 9.
    const [text, hparams] = at(start, 5, 1);
    expect(at(start, 2)).toEqual([3]);
    expect([text1(text, 1), text1(text, 9, 1, 1)]).toEqual(['settings', 'text']);
    // tensor.proto: dtype 1 with DT_STRING = 7, string_val 8.
    expect(at(text, 8, 1)).toEqual([7]);
    expect(text1(text, 8, 8)).toBe(
      '| setting | value |\n|---|---|\n| loss.lambda | 0.1 |\n| optim | adam\\|w |\n| use_ema | false |',
    );
    // plugin_data.proto: session_start_info 3 with hparams 1, a map: key 1, value 2; struct.proto: number 2, string 3, bool 4.
    expect([text1(hparams, 1), text1(hparams, 9, 1, 1)]).toEqual(['_hparams_/session_start_info', 'hparams']);
    const entries = at(hparams, 9, 1, 2, 3, 1);
    expect(entries.map((entry) => text1(entry, 1))).toEqual(Object.keys(settings));
    expect(entries.map((entry) => at(entry, 2)[0])).toEqual([
      Buffer.from([0x11, ...Buffer.from(Float64Array.of(0.1).buffer)]),
      Buffer.from([0x1a, 6, ...Buffer.from('adam|w')]),
      Buffer.from([0x20, 0]),
    ]);

    expect([at(evaluation, 2), text1(evaluation, 5, 1, 1)]).toEqual([[4], 'evaluation/fid']);
    expect(at(evaluation, 5, 1, 2)).toEqual([2.5]);

    // summary.proto, Image: height 1, width 2, colorspace 3 with RGB = 3, encoded_image_string 4.
    expect([at(image, 2), text1(image, 5, 1, 1)]).toEqual([[5], 'samples']);
    expect([1, 2, 3].map((field) => at(image, 5, 1, 4, field))).toEqual([[5], [7], [3]]);
    expect(at(image, 5, 1, 4, 4)[0]).toEqual(png);

    // session_end_info 4 with status 1: STATUS_SUCCESS = 1.
    expect(text1(end, 5, 1, 1)).toBe('_hparams_/session_end_info');
    expect(at(end, 5, 1, 9, 1, 2, 4, 1)).toEqual([1]);
  });

  it('keeps many values of a step, large steps and values that are not finite', () => {
    const logger = new TensorBoardLogger(root);
    logger.log(2 ** 40, { a: Number.NaN, b: Number.NEGATIVE_INFINITY, c: 0 });
    logger.close();
    const file = readFileSync(logger.path);
    const payload = file.subarray(16 + Number(file.readBigUInt64LE(0)) + 12, file.length - 4);
    const reader = protobuf.Reader.create(payload);
    reader.uint32();
    reader.double();
    expect(reader.uint32()).toBe((2 << 3) | 0);
    expect(Number(reader.int64())).toBe(2 ** 40);
    expect(reader.uint32()).toBe((5 << 3) | 2);
    const summary = protobuf.Reader.create(reader.bytes());
    const values: [string, number][] = [];
    while (summary.pos < summary.len) {
      expect(summary.uint32()).toBe((1 << 3) | 2);
      const value = protobuf.Reader.create(summary.bytes());
      expect(value.uint32()).toBe((1 << 3) | 2);
      const tag = value.string();
      expect(value.uint32()).toBe((2 << 3) | 5);
      values.push([tag, value.float()]);
    }
    expect(values).toEqual([
      ['a', Number.NaN],
      ['b', Number.NEGATIVE_INFINITY],
      ['c', 0],
    ]);
  });
});
