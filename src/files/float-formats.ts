/*
 * float16 (IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits) and bfloat16 (the upper half of a float32), as bit
 * patterns. Node 20 has no Float16Array.
 */

/** Every float16 is a float32: 65,536 of them. */
let float16Values: Float32Array | undefined;

/** Writes the values of float16 bits to `target`. Exact. */
export function decodeFloat16(bits: Uint16Array, target: Float32Array): void {
  float16Values ??= Float32Array.from({ length: 65_536 }, (_, pattern) => float16Value(pattern));
  for (let i = 0; i < bits.length; i++) target[i] = float16Values[bits[i] as number] as number;
}

/** Writes the values of bfloat16 bits to `target`. Exact. */
export function decodeBfloat16(bits: Uint16Array, target: Float32Array): void {
  const words = new Uint32Array(target.buffer, target.byteOffset, bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = (bits[i] as number) << 16;
}

/** The nearest float16s, ties to even, as torch's `.half()` rounds; infinite from 65,520 on. */
export function encodeFloat16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(words, (word) => ((word >>> 16) & 0x8000) | float16Magnitude(word & 0x7fffffff));
}

/** The nearest bfloat16s, ties to even, as torch's `.bfloat16()` rounds. */
export function encodeBfloat16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(words, (word) => {
    const noNumber = (word & 0x7fffffff) > 0x7f800000;
    return noNumber ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  });
}

function float16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** @param magnitude the bits of a float32 without its sign. */
function float16Magnitude(magnitude: number): number {
  const [infinity, one65536, smallestNormal, halfOfSmallest] = [
    0x7f800000, 0x47800000, 0x38800000, 0x33000000,
  ];
  if (magnitude > infinity) return 0x7e00;
  if (magnitude >= one65536) return 0x7c00;
  // Adding just under half of the last kept place carries exactly where the rest is above half, or half and odd.
  if (magnitude >= smallestNormal) return (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
  if (magnitude <= halfOfSmallest) return 0;
  // Subnormal: a whole number of 2^-24.
  const shift = 126 - (magnitude >>> 23);
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const kept = significand >>> shift;
  const rest = significand - kept * 2 ** shift;
  const half = 2 ** (shift - 1);
  return rest > half || (rest === half && kept % 2 === 1) ? kept + 1 : kept;
}
