import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16 } from '../../src/files/float-formats.ts';

/*
 * The digests are of what numpy 1.24 (`astype(float16)`) and torch 1.13 (`.half()`, `.bfloat16()`) give for the same
 * inputs; NaNs, whose payload is free, are left out.
 */
const sha256 = (array: Float32Array | Uint16Array) =>
  createHash('sha256')
    .update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength))
    .digest('hex');
const everyPattern = Uint16Array.from({ length: 65_536 }, (_, pattern) => pattern);
const numbers = (values: Float32Array) => values.filter((value) => !Number.isNaN(value));

it('every float16 and bfloat16 has the value of numpy and torch', () => {
  const values = new Float32Array(65_536);
  decodeFloat16(everyPattern, values);
  expect(sha256(numbers(values))).toBe('680bbc22915f61aa1bbfc7265bc3882a6aa42d299bfd2c571807196e5544de2e');
  expect(encodeFloat16(values).filter((_, i) => !Number.isNaN(values[i]))).toEqual(
    everyPattern.filter((_, i) => !Number.isNaN(values[i])),
  );
  decodeBfloat16(everyPattern, values);
  expect(sha256(numbers(values))).toBe('ba630f4dd7aba313174b044090cfc5353bc4f587c4f6c2848056051239b777b0');
});

it('130,561 bit patterns spread over all float32 are rounded as by numpy and torch', () => {
  const bits = Uint32Array.from({ length: 2 ** 17 }, (_, i) => (i * 2654435761) % 2 ** 32);
  const values = numbers(new Float32Array(bits.buffer));
  expect(values).toHaveLength(130_561);
  expect(sha256(encodeFloat16(values))).toBe('5b4e0195e1be251041f1f843f2b1d4dcb18ef911226eb4d6f0e99beef62eede1');
  expect(sha256(encodeBfloat16(values))).toBe('3dd5a1bae3924e761c566c9a3b00feb3498f99acba98ba9cd118fda24a9cd924');
});

it('every tie between two float16s goes to the even one, as in numpy', () => {
  const values = new Float32Array(65_536);
  decodeFloat16(everyPattern, values);
  const finite = values.slice(0, 0x7c00);
  const ties = Float32Array.from({ length: finite.length - 1 }, (_, i) => {
    return ((finite[i] as number) + (finite[i + 1] as number)) / 2;
  });
  expect(sha256(encodeFloat16(ties))).toBe('f7b2f62f4d1e4020acd921bf12e004f2d91dfbde045ff0262ebf68e4a5ec8a3c');
});

it('NaN stays NaN, also with a payload in its last bits', () => {
  const values = new Float32Array(new Uint32Array([0x7f800001, 0xffc00000]).buffer);
  const back = new Float32Array(2);
  decodeFloat16(encodeFloat16(values), back);
  expect([...back]).toEqual([Number.NaN, Number.NaN]);
  decodeBfloat16(encodeBfloat16(values), back);
  expect([...back]).toEqual([Number.NaN, Number.NaN]);
});
