import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import protobuf from 'protobufjs/light.js';
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
