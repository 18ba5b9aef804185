import { joinedBytes } from '../platform/bytes.ts';

/*
 * The wire format of protobuf (https://protobuf.dev/programming-guides/encoding), as ONNX files and TensorBoard's events
 * use it. A message is a row of fields, each a tag with a number and a value. Messages are plain objects here.
 */

export const VARINT = 0;
const FIXED_64 = 1;
export const LENGTH_DELIMITED = 2;
const FIXED_32 = 5;

const WIRE_TYPE = {
  bool: VARINT,
  int32: VARINT,
  int64: VARINT,
  float: FIXED_32,
  double: FIXED_64,
  string: LENGTH_DELIMITED,
  bytes: LENGTH_DELIMITED,
} as const;

/** protobuf's own limit. */
const MAX_DEPTH = 100;

type Scalar = keyof typeof WIRE_TYPE;

interface Field {
  readonly id: number;
  /** A function where it is a message: messages may hold each other. */
  readonly type: Scalar | (() => Fields);
  readonly isList?: boolean;
  /** Whether a value is written that is the default of its type: 0, false or empty. */
  readonly writesDefault?: boolean;
}
type Fields = Readonly<Record<string, Field>>;

/** The fields of a kind of message, by the names of its object. */
export type FieldsOf<Message> = { readonly [Name in keyof Message]-?: Field };

export const field = (id: number, type: Field['type']): Field => ({ id, type });
/** Numbers are written packed, and read in both forms. */
export const list = (id: number, type: Field['type']): Field => ({ id, type, isList: true });
/** A member of a oneof: that it is there says something, whatever its value. */
export const choice = (id: number, type: Field['type']): Field => ({ id, type, writesDefault: true });

/**
 * The bytes of a message, with its fields in the order of `fields`. Of an int64, numbers beyond 2^53 are not exact.
 *
 * @example encodeMessage({ key: field(1, 'string'), value: field(2, 'string') }, { key: 'a', value: 'b' });
 */
export function encodeMessage<Message extends object>(
  fields: FieldsOf<Message>,
  message: Message,
): Uint8Array<ArrayBuffer> {
  const writer = new Writer();
  writer.message(fields, message as Readonly<Record<string, unknown>>);
  return writer.joined();
}

/**
 * A message as a plain object, without the fields that are not set. Fields that `fields` does not have are skipped.
 *
 * @throws {RangeError} when the bytes are not a message, or end too early.
 */
export function decodeMessage<Message>(fields: FieldsOf<Message>, bytes: Uint8Array): Partial<Message> {
  return new Reader(bytes).message(fields, 0) as Partial<Message>;
}

/** What stands before a value of `length` bytes. */
export function lengthHeader(id: number, length: number): Uint8Array {
  const writer = new Writer();
  writer.header(id, length);
  return writer.joined();
}

const isNumeric = (type: Field['type']): type is Scalar =>
  typeof type === 'string' && WIRE_TYPE[type] !== LENGTH_DELIMITED;

const CHUNK_BYTES = 16_384;
/** Longer contents become a piece of their own, uncopied. */
const MAX_COPIED_BYTES = 1024;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false;
  return true;
}

/** Writes from the end to the beginning: the length of a message is known when its contents are written. */
class Writer {
  /** The last is first. */
  private readonly finished: Uint8Array[] = [];
  private finishedLength = 0;
  private chunk = new Uint8Array(CHUNK_BYTES);
  /** Where what is written of the chunk begins. */
  private begin = CHUNK_BYTES;

  private get length(): number {
    return this.finishedLength + this.chunk.length - this.begin;
  }

  joined(): Uint8Array<ArrayBuffer> {
    return joinedBytes([this.chunk.subarray(this.begin), ...this.finished.toReversed()]);
  }

  /** @returns where `length` bytes go in the chunk. */
  private room(length: number): number {
    if (length > this.begin) {
      this.finish(this.chunk.subarray(this.begin));
      this.chunk = new Uint8Array(CHUNK_BYTES);
      this.begin = CHUNK_BYTES;
    }
    this.begin -= length;
    return this.begin;
  }

  private finish(piece: Uint8Array): void {
    this.finished.push(piece);
    this.finishedLength += piece.length;
  }

  header(id: number, length: number): void {
    this.varint(length);
    this.varint(id * 8 + LENGTH_DELIMITED);
  }

  message(fields: Fields, message: Readonly<Record<string, unknown>>): void {
    for (const name of Object.keys(fields).reverse()) {
      const field = fields[name];
      const value = message[name];
      if (!field || value === undefined) continue;
      if (!field.isList) this.field(field, value);
      else if (isNumeric(field.type)) this.packed(field.id, field.type, value as readonly number[]);
      else for (const one of (value as readonly unknown[]).toReversed()) this.field(field, one);
    }
  }

  private field({ id, type, isList = false, writesDefault = isList }: Field, value: unknown): void {
    const { length } = this;
    if (typeof type === 'function') {
      this.message(type(), value as Readonly<Record<string, unknown>>);
      this.header(id, this.length - length);
    } else if (type === 'string' || type === 'bytes') {
      if ((value as string | Uint8Array).length === 0 && !writesDefault) return;
      if (type === 'string') this.text(value as string);
      else this.bytes(value as Uint8Array);
      this.header(id, this.length - length);
    } else if (writesDefault || !Object.is(Number(value), 0)) {
      this.number(type, Number(value));
      this.varint(id * 8 + WIRE_TYPE[type]);
    }
  }

  private packed(id: number, type: Scalar, values: readonly number[]): void {
    if (values.length === 0) return;
    const { length } = this;
    for (const value of values.toReversed()) this.number(type, value);
    this.header(id, this.length - length);
  }

  /** Names are short and ASCII, which the encoder takes longer for. */
  private text(text: string): void {
    if (text.length > MAX_COPIED_BYTES || !isAscii(text)) {
      this.bytes(encoder.encode(text));
      return;
    }
    const at = this.room(text.length);
    for (let i = 0; i < text.length; i++) this.chunk[at + i] = text.charCodeAt(i);
  }

  private bytes(bytes: Uint8Array): void {
    if (bytes.length <= MAX_COPIED_BYTES) {
      // First, because it may take another chunk.
      const at = this.room(bytes.length);
      this.chunk.set(bytes, at);
    } else {
      this.finish(this.chunk.subarray(this.begin));
      this.chunk = this.chunk.subarray(0, this.begin);
      this.finish(bytes);
    }
  }

  private number(type: Scalar, value: number): void {
    if (WIRE_TYPE[type] === VARINT) {
      this.varint(value);
      return;
    }
    const size = type === 'float' ? 4 : 8;
    const at = this.room(size);
    const view = new DataView(this.chunk.buffer, this.chunk.byteOffset + at, size);
    if (type === 'float') view.setFloat32(0, value, true);
    else view.setFloat64(0, value, true);
  }

  /** Seven bits a byte, the lowest first. A negative number has the 64 bits of its two's complement. */
  private varint(value: number): void {
    if (value >= 0 && value < 128) {
      const at = this.room(1);
      this.chunk[at] = value;
      return;
    }
    const isLong = value < 0 || value > Number.MAX_SAFE_INTEGER;
    this.bytes(Uint8Array.from(isLong ? longVarint(value) : shortVarint(value)));
  }
}

function shortVarint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return [...bytes, rest];
}

function longVarint(value: number): number[] {
  const bytes: number[] = [];
  let bits = value >= 2 ** 63 ? 2n ** 63n - 1n : BigInt.asUintN(64, BigInt(Math.max(Math.trunc(value), -(2 ** 63))));
  for (; bits > 127n; bits >>= 7n) bytes.push(Number(bits & 127n) | 128);
  return [...bytes, Number(bits)];
}

/** Reads one value after another. */
export class Reader {
  /** Where the next value begins. */
  position = 0;
  private readonly view: DataView;

  constructor(private readonly all: Uint8Array) {
    this.view = new DataView(all.buffer, all.byteOffset, all.byteLength);
  }

  tag(): { id: number; wireType: number } {
    const tag = this.varint();
    if (!(tag >= 8 && tag < 2 ** 32)) throw new RangeError(`a field at byte ${this.position} has no number`);
    return { id: Math.floor(tag / 8), wireType: tag % 8 };
  }

  /** A signed whole number of up to 64 bits, nearest where it is beyond 2^53. */
  varint(): number {
    // Bits 0 to 27, 28 to 55, 56 to 63: added from the top, numbers near 0 are exact.
    const parts: [number, number, number] = [0, 0, 0];
    for (let at = 0; at < 10; at++) {
      const byte = this.all[this.position++];
      if (byte === undefined) throw new RangeError('it ends in a number');
      parts[at >> 2] = (parts[at >> 2] as number) | ((byte & 127) << (7 * (at & 3)));
      if (byte < 128) return ((parts[2] << 24) >> 24) * 2 ** 56 + parts[1] * 2 ** 28 + parts[0];
    }
    throw new RangeError(`a number at byte ${this.position} has more than 64 bits`);
  }

  skip(wireType: number): void {
    if (wireType === VARINT) this.varint();
    else if (wireType === LENGTH_DELIMITED) this.take(this.varint());
    else if (wireType === FIXED_32) this.take(4);
    else if (wireType === FIXED_64) this.take(8);
    else throw new RangeError(`a field at byte ${this.position} has the wire type ${wireType}`);
  }

  message(fields: Fields, depth: number): Record<string, unknown> {
    if (depth > MAX_DEPTH) throw new RangeError(`it nests more than ${MAX_DEPTH} messages`);
    const names = Object.keys(fields);
    const message: Record<string, unknown> = {};
    while (this.position < this.all.length) {
      const { id, wireType } = this.tag();
      const name = names.find((one) => fields[one]?.id === id);
      const field = name === undefined ? undefined : fields[name];
      if (name === undefined || !field) this.skip(wireType);
      else if (!field.isList) message[name] = this.value(field.type, wireType, depth);
      else {
        const values = (message[name] as unknown[] | undefined) ?? [];
        if (wireType === LENGTH_DELIMITED && isNumeric(field.type)) this.packed(field.type, values);
        else values.push(this.value(field.type, wireType, depth));
        message[name] = values;
      }
    }
    return message;
  }

  private packed(type: Scalar, values: unknown[]): void {
    const inner = new Reader(this.take(this.varint()));
    while (inner.position < inner.all.length) values.push(inner.value(type, WIRE_TYPE[type], 0));
  }

  private value(type: Field['type'], wireType: number, depth: number): unknown {
    const expected = typeof type === 'function' ? LENGTH_DELIMITED : WIRE_TYPE[type];
    if (wireType !== expected)
      throw new RangeError(`a field at byte ${this.position} has the wire type ${wireType}, not ${expected}`);
    if (typeof type === 'function') return new Reader(this.take(this.varint())).message(type(), depth + 1);
    switch (type) {
      case 'bool':
        return this.varint() !== 0;
      case 'int32':
        return this.varint() | 0;
      case 'int64':
        return this.varint();
      case 'float':
        return this.view.getFloat32(this.advance(4), true);
      case 'double':
        return this.view.getFloat64(this.advance(8), true);
      case 'string':
        return decoder.decode(this.take(this.varint()));
      case 'bytes':
        return this.take(this.varint());
    }
  }

  private take(length: number): Uint8Array {
    return this.all.subarray(this.advance(length), this.position);
  }

  /** @returns where the next `length` bytes begin. */
  private advance(length: number): number {
    const begin = this.position;
    if (!(length >= 0 && length <= this.all.length - begin))
      throw new RangeError(`it ends ${begin + length - this.all.length} bytes too early`);
    this.position += length;
    return begin;
  }
}
