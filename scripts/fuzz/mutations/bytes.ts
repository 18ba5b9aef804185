import type { RandomStream } from '../../../src/random/random-stream.ts';
import { type Mutation, pick } from './mutation.ts';

/* Changes of bytes, whatever the format. */

/** Integers at which readers go wrong: the ends of the types and of plausible lengths. */
const INTEGERS = [0n, 1n, -1n, 2n, 16n, 127n, 128n, 255n, 256n, 32767n, 32768n, 65535n, 65536n, 2n ** 24n]
  .concat([2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 40n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)])
  .concat([1_000_000n, 100_000_000n]);

/** A place in a file: one of three times near its begin, one near its end, where headers and directories lie. */
function position(bytes: Uint8Array, stream: RandomStream): number {
  const near = Math.min(bytes.length, 128);
  const begin = stream.integer(3);
  if (begin === 0) return stream.integer(near);
  return begin === 1 ? bytes.length - 1 - stream.integer(near) : stream.integer(bytes.length);
}

function range(bytes: Uint8Array, stream: RandomStream): [begin: number, end: number] {
  const begin = position(bytes, stream);
  const longest = stream.integer(4) === 0 ? bytes.length : 16;
  return [begin, Math.min(bytes.length, begin + 1 + stream.integer(longest))];
}

const flipBit: Mutation = (bytes, stream) => {
  const out = Uint8Array.from(bytes);
  const at = position(out, stream);
  out[at] = (out[at] as number) ^ (1 << stream.integer(8));
  return out;
};

const setByte: Mutation = (bytes, stream) => {
  const out = Uint8Array.from(bytes);
  out[position(out, stream)] = pick(stream, [0, 1, 0x7f, 0x80, 0xff, stream.integer(256)]);
  return out;
};

const writeInteger: Mutation = (bytes, stream) => {
  const width = pick(stream, [2, 4, 8]);
  if (bytes.length < width) return undefined;
  const value = pick(stream, INTEGERS);
  const out = Uint8Array.from(bytes);
  const at = Math.min(position(out, stream), out.length - width);
  const littleEndian = stream.integer(2) === 0;
  for (let i = 0; i < width; i++)
    out[at + (littleEndian ? i : width - 1 - i)] = Number((value >> BigInt(8 * i)) & 255n);
  return out;
};

/** Small changes of lengths: an offset that points just beside what it should. */
const addToInteger: Mutation = (bytes, stream) => {
  const out = Uint8Array.from(bytes);
  const at = position(out, stream);
  out[at] = (out[at] as number) + stream.integer(17) - 8;
  return out;
};

const truncate: Mutation = (bytes, stream) => bytes.subarray(0, position(bytes, stream));

const remove: Mutation = (bytes, stream) => {
  const [begin, end] = range(bytes, stream);
  return Buffer.concat([bytes.subarray(0, begin), bytes.subarray(end)]);
};

const repeat: Mutation = (bytes, stream) => {
  const [begin, end] = range(bytes, stream);
  const piece = bytes.subarray(begin, end);
  const copies = Array<Uint8Array>(1 + stream.integer(stream.integer(8) === 0 ? 64 : 2)).fill(piece);
  return Buffer.concat([bytes.subarray(0, end), ...copies, bytes.subarray(end)]);
};

const insert: Mutation = (bytes, stream) => {
  const at = position(bytes, stream);
  const piece = Uint8Array.from({ length: 1 + stream.integer(16) }, () => stream.integer(256));
  return Buffer.concat([bytes.subarray(0, at), stream.integer(2) === 0 ? piece : piece.fill(0), bytes.subarray(at)]);
};

const overwrite: Mutation = (bytes, stream) => {
  const [begin, end] = range(bytes, stream);
  const out = Uint8Array.from(bytes);
  out.copyWithin(position(bytes, stream), begin, end);
  return out;
};

const splice: Mutation = (bytes, stream, { other }) => {
  if (other.length === 0) return undefined;
  const end = position(bytes, stream);
  const begin = stream.integer(2) === 0 ? Math.min(end, other.length) : position(other, stream);
  return Buffer.concat([bytes.subarray(0, end), other.subarray(begin)]);
};

const append: Mutation = (bytes, _stream, { other }) => Buffer.concat([bytes, other]);

const empty: Mutation = (_bytes, stream) => (stream.integer(16) === 0 ? new Uint8Array() : undefined);

/** Of files that are not empty. */
export const byteMutations: readonly Mutation[] = [
  flipBit,
  flipBit,
  setByte,
  writeInteger,
  writeInteger,
  addToInteger,
  truncate,
  remove,
  repeat,
  insert,
  overwrite,
  splice,
  append,
  empty,
];
