/*
 * float16 (IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits) and bfloat16 (the upper half of a float32), as bit
 * patterns in a Uint16Array: safetensors and ONNX store them so, and Node 20 has no Float16Array.
 */

/** The float32 of each of the 65,536 patterns of a float16. */
let float16Values: Float32Array | undefined;

/** Writes the values of float16 bits to `target`, which is as long, and returns it. Exact. */
export function decodeFloat16(bits: Uint16Array, target: Float32Array): Float32Array {
  float16Values ??= Float32Array.from({ length: 65_536 }, (_, pattern) => float16Value(pattern));
  for (let i = 0; i < bits.length; i++) target[i] = float16Values[bits[i] as number] as number;
  return target;
}

function float16Value(pattern: number): number {
  const sign = pattern >>> 15 === 0 ? 1 : -1;
  const exponent = (pattern >>> 10) & 31;
  const fraction = pattern & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** Writes the values of bfloat16 bits to `target`, which is as long, and returns it. Exact. */
export function decodeBfloat16(bits: Uint16Array, target: Float32Array): Float32Array {
  const words = new Uint32Array(target.buffer, target.byteOffset, bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = (bits[i] as number) << 16;
  return target;
}

/** The nearest float16s, ties to even, as torch's `.half()` rounds; infinite from 65,520 on. */
export function encodeFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(words, (word, i) => {
    const sign = (word >>> 16) & 0x8000;
    const magnitude = word & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00;
    if (magnitude >= 0x47800000) return sign | 0x7c00;
    // Below 2^-14 a float16 is a multiple of 2^-24. Adding 0.5 leaves such a multiple in the lowest bits of a float32.
    if (magnitude < 0x38800000) return sign | lowBits(Math.abs(values[i] as number) + 0.5);
    // A carry out of the fraction raises the exponent, up to infinity.
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  });
}

const word = new Float32Array(1);
const wordBits = new Uint32Array(word.buffer);

/** The fraction bits of the float32 that is nearest to a value from 0.5 to 1. */
function lowBits(value: number): number {
  word[0] = value;
  return (wordBits[0] as number) - 0x3f000000;
}

/** The nearest bfloat16s, ties to even, as torch's `.bfloat16()` rounds. */
export function encodeBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(words, (word) => {
    const notANumber = (word & 0x7fffffff) > 0x7f800000;
    return notANumber ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  });
}
