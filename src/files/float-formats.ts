import { Float16Array } from '@petamoriken/float16';

/*
 * float16 (IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits) and bfloat16 (the upper half of a float32), as bit
 * patterns in a Uint16Array: safetensors and ONNX store them so, and Node 20 has no Float16Array.
 */

/** The float32 of each of the 65,536 patterns of a float16. */
let float16Values: Float32Array | undefined;

/** Writes the values of float16 bits to `target`, which is as long, and returns it. Exact. */
export function decodeFloat16(bits: Uint16Array, target: Float32Array): Float32Array {
  float16Values ??= Float32Array.from(
    new Float16Array(Uint16Array.from({ length: 65_536 }, (_, pattern) => pattern).buffer),
  );
  for (let i = 0; i < bits.length; i++) target[i] = float16Values[bits[i] as number] as number;
  return target;
}

/** Writes the values of bfloat16 bits to `target`, which is as long, and returns it. Exact. */
export function decodeBfloat16(bits: Uint16Array, target: Float32Array): Float32Array {
  const words = new Uint32Array(target.buffer, target.byteOffset, bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = (bits[i] as number) << 16;
  return target;
}

/** The nearest float16s, ties to even, as torch's `.half()` rounds; infinite from 65,520 on. */
export function encodeFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  return new Uint16Array(new Float16Array(values).buffer);
}

/** The nearest bfloat16s, ties to even, as torch's `.bfloat16()` rounds. */
export function encodeBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(words, (word) => {
    const notANumber = (word & 0x7fffffff) > 0x7f800000;
    return notANumber ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  });
}
