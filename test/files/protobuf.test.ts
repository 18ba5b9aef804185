import fc from 'fast-check';
import protobuf from 'protobufjs/light.js';
import { describe, expect, it } from 'vitest';
import { choice, decodeMessage, encodeMessage, type FieldsOf, field, list } from '../../src/files/protobuf.ts';

interface Sample {
  text?: string;
  flag?: boolean;
  small?: number;
  large?: number;
  single?: number;
  double?: number;
  bytes?: Uint8Array;
  numbers?: number[];
  singles?: number[];
  texts?: string[];
  inner?: Sample;
  inners?: Sample[];
  chosen?: number;
}

const SAMPLE: FieldsOf<Sample> = {
  text: field(1, 'string'),
  flag: field(2, 'bool'),
  small: field(3, 'int32'),
  large: field(4, 'int64'),
  single: field(5, 'float'),
  double: field(6, 'double'),
  bytes: field(7, 'bytes'),
  numbers: list(8, 'int64'),
  singles: list(9, 'float'),
  texts: list(10, 'string'),
  inner: field(16, () => SAMPLE),
  inners: list(17, () => SAMPLE),
  chosen: choice(3000, 'int64'),
};

/** The same message for protobufjs, an implementation of others. */
const reference = protobuf.Root.fromJSON({
  nested: {
    Sample: {
      fields: {
        text: { type: 'string', id: 1 },
        flag: { type: 'bool', id: 2 },
        small: { type: 'int32', id: 3 },
        large: { type: 'int64', id: 4 },
        single: { type: 'float', id: 5 },
        double: { type: 'double', id: 6 },
        bytes: { type: 'bytes', id: 7 },
        numbers: { rule: 'repeated', type: 'int64', id: 8 },
        singles: { rule: 'repeated', type: 'float', id: 9 },
        texts: { rule: 'repeated', type: 'string', id: 10 },
        inner: { type: 'Sample', id: 16 },
        inners: { rule: 'repeated', type: 'Sample', id: 17 },
        chosen: { type: 'int64', id: 3000 },
      },
      oneofs: { choice: { oneof: ['chosen'] } },
    },
  },
}).lookupType('Sample');
const referenceBytes = (message: Sample) => Uint8Array.from(reference.encode(reference.fromObject(message)).finish());

const int64 = fc.oneof(
  fc.maxSafeInteger(),
  fc.constantFrom(0, 127, 128, 2 ** 28, 2 ** 53, 2 ** 56, 2 ** 63, -1, -(2 ** 63)),
);
const { sample } = fc.letrec<{ sample: Sample }>((tie) => ({
  sample: fc.record(
    {
      text: fc.string({ unit: 'grapheme' }),
      flag: fc.boolean(),
      small: fc.integer(),
      large: int64,
      single: fc.float(),
      double: fc.double(),
      bytes: fc.uint8Array({ maxLength: 200 }),
      numbers: fc.array(int64),
      singles: fc.array(fc.float()),
      texts: fc.array(fc.string()),
      inner: fc.option(tie('sample'), { nil: {}, maxDepth: 3 }),
      inners: fc.array(fc.option(tie('sample'), { nil: {}, maxDepth: 3 }), { maxLength: 3 }),
      chosen: int64,
    },
    { requiredKeys: [] },
  ),
}));

describe('a protobuf message', () => {
  it('is the bytes that protobufjs writes, and decodes to what protobufjs reads', () => {
    fc.assert(
      fc.property(sample, (message) => {
        const bytes = encodeMessage(SAMPLE, message);
        expect(bytes).toEqual(referenceBytes(message));
        const expected = reference.toObject(reference.decode(bytes), { longs: Number });
        expect(decodeMessage(SAMPLE, bytes)).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  });

  it('may be large', () => {
    const texts = Array.from({ length: 3000 }, (_, i) => `text ${i}`);
    const one = {
      texts,
      bytes: new Uint8Array(1e5).fill(7),
      numbers: texts.map((_, i) => i * 1000),
      text: 'a'.repeat(900),
    };
    const message: Sample = { ...one, inners: [one, one, { inner: one }] };
    const bytes = encodeMessage(SAMPLE, message);
    // Not toEqual, which compares each byte by itself.
    expect(Buffer.compare(bytes, referenceBytes(message))).toBe(0);
    expect(decodeMessage(SAMPLE, bytes).inners?.[2]?.inner?.texts).toEqual(texts);
  });

  it('is read with lists of numbers that are not packed, and without what is not known', () => {
    const unpacked = Uint8Array.of(0x40, 1, 0x40, 2);
    const unknown = [
      Uint8Array.of(0xa0, 6, 1),
      Uint8Array.of(0xa1, 6, ...Array(8).fill(1)),
      Uint8Array.of(0xa2, 6, 1, 9),
    ];
    expect(decodeMessage(SAMPLE, Uint8Array.of(...unknown.flatMap((one) => [...one]), ...unpacked))).toEqual({
      numbers: [1, 2],
    });
  });

  it.each([
    ['bytes that end in a number', [0x18, 0x80], 'ends in a number'],
    ['a length beyond the end', [0x0a, 5, 65], 'ends 4 bytes too early'],
    ['a negative length', [0x0a, ...Array(9).fill(0xff), 1], 'too early'],
    ['a number of more than ten bytes', [0x18, ...Array(11).fill(0x80)], 'more than 64 bits'],
    ['a field without a number', [0], 'has no number'],
    ['text where a number belongs', [0x1a, 1, 65], 'wire type 2, not 0'],
    ['a group, which nothing writes any more', [0x1b], 'wire type 3'],
  ])('is refused with %s', (_what, bytes, message) => {
    expect(() => decodeMessage(SAMPLE, Uint8Array.from(bytes))).toThrow(message);
  });

  it('is refused when it nests more than 100 messages', () => {
    const nested = (depth: number): Sample => (depth === 0 ? {} : { inner: nested(depth - 1) });
    expect(decodeMessage(SAMPLE, encodeMessage(SAMPLE, nested(100)))).toEqual(nested(100));
    expect(() => decodeMessage(SAMPLE, encodeMessage(SAMPLE, nested(101)))).toThrow('more than 100 messages');
  });
});
