/** IEEE 754 half precision, as bits, to float32: exact. */
export function float16ToFloat32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  return Float32Array.from(bits, (half) => {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

/** float32 to the nearest half precision number, ties to even; beyond 65,504 infinite. */
export function float32ToFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  return Uint16Array.from(values, (value) => {
    const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
    const size = Math.abs(value);
    if (Number.isNaN(value)) return 0x7e00;
    // Halfway between the largest number and the next power of two already rounds up.
    if (size >= 65520) return sign | 0x7c00;
    if (size < 2 ** -14) return sign | roundHalfEven(size * 2 ** 24);
    const exponent = Math.floor(Math.log2(size));
    const scale = size < 2 ** exponent ? exponent - 1 : size >= 2 ** (exponent + 1) ? exponent + 1 : exponent;
    // A fraction that rounds up to 2 carries into the exponent by itself.
    return sign | (((scale + 15) << 10) + roundHalfEven((size / 2 ** scale - 1) * 1024));
  });
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
