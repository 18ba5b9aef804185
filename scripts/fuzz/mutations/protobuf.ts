import type { RandomStream } from '../../../src/random/random-stream.ts';
import { byteMutations } from './bytes.ts';
import { type Mutation, pick } from './mutation.ts';

/* Changes of the fields of a protobuf message, such as an ONNX file, after which all lengths fit again. */

interface Field {
  id: number;
  wireType: number;
  /** The bytes of a value of fixed size or of a length-delimited one, or its number. */
  value: Uint8Array | bigint;
}

const VARINT = 0;
const FIXED_64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED_32 = 5;
const MAX_DEPTH = 8;

const NUMBERS = [0n, 1n, 2n, 3n, 7n, 10n, 16n, 255n, 65536n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n, 2n ** 62n].concat([
  2n ** 63n - 1n,
  2n ** 64n - 1n,
  2n ** 64n - 2n,
  1_000_000n,
  100_000_000n,
]);

/** One field somewhere in the message: removed, doubled, moved, given another number or other bytes. */
export const changeField: Mutation = (bytes, stream) => changeMessage(bytes, stream, MAX_DEPTH);

function changeMessage(bytes: Uint8Array, stream: RandomStream, depth: number): Uint8Array | undefined {
  const fields = fieldsOf(bytes);
  if (!fields || fields.length === 0) return undefined;
  const at = stream.integer(fields.length);
  const field = fields[at] as Field;
  if (typeof field.value !== 'bigint' && field.wireType === LENGTH_DELIMITED && depth > 0 && stream.integer(6) > 0) {
    const inner = changeMessage(field.value, stream, depth - 1);
    if (inner) {
      fields[at] = { ...field, value: inner };
      return encoded(fields);
    }
  }
  const kind = stream.integer(8);
  if (kind === 0) fields.splice(at, 1);
  else if (kind === 1) fields.splice(stream.integer(fields.length), 0, field);
  else if (kind === 2) fields[at] = { ...field, value: (fields[stream.integer(fields.length)] as Field).value };
  else fields[at] = { ...field, value: changedValue(field.value, stream) };
  return encoded(fields.filter(({ value, wireType }) => (typeof value === 'bigint') === (wireType === VARINT)));
}

function changedValue(value: Uint8Array | bigint, stream: RandomStream): Uint8Array | bigint {
  if (typeof value === 'bigint')
    return stream.integer(2) === 0 ? pick(stream, NUMBERS) : BigInt.asUintN(64, value + BigInt(stream.integer(9) - 4));
  if (value.length === 0) return value;
  return pick(stream, byteMutations)(value, stream, { name: '', other: value }) ?? new Uint8Array();
}

/** The fields of a message; undefined where the bytes are none. */
function fieldsOf(bytes: Uint8Array): Field[] | undefined {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): bigint | undefined => {
    let value = 0n;
    for (let shift = 0n; at < bytes.length && shift < 70n; shift += 7n) {
      const byte = bytes[at++] as number;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
    return undefined;
  };
  while (at < bytes.length) {
    const tag = varint();
    if (tag === undefined || tag >> 3n === 0n || tag >> 3n > 1000n) return undefined;
    const [id, wireType] = [Number(tag >> 3n), Number(tag & 7n)];
    const number = wireType === VARINT || wireType === LENGTH_DELIMITED ? varint() : undefined;
    if (wireType === VARINT && number !== undefined) {
      fields.push({ id, wireType, value: number });
      continue;
    }
    const length = wireType === FIXED_64 ? 8 : wireType === FIXED_32 ? 4 : Number(number ?? Number.NaN);
    if (!(at + length <= bytes.length)) return undefined;
    fields.push({ id, wireType, value: bytes.subarray(at, at + length) });
    at += length;
  }
  return fields;
}

function encoded(fields: readonly Field[]): Uint8Array {
  const pieces = fields.flatMap(({ id, wireType, value }) => {
    const tag = varintBytes(BigInt((id << 3) | wireType));
    if (typeof value === 'bigint') return [tag, varintBytes(value)];
    return wireType === LENGTH_DELIMITED ? [tag, varintBytes(BigInt(value.length)), value] : [tag, value];
  });
  return Buffer.concat(pieces);
}

function varintBytes(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
