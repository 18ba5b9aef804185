/* The arithmetic of the perceptual path length beside LPIPS: steps between latents, and which distances count. */

/** torch-fidelity's names. */
export const INTERPOLATIONS = ['lerp', 'slerp_any', 'slerp_unit'] as const;
export type InterpolationName = (typeof INTERPOLATIONS)[number];

/** Lengths below it are 0, and cosines nearer to 1 than it are of one direction. */
const TINY = 1e-7;

/**
 * A step from each latent of `from` towards that of `to`.
 *
 * @param step the part of the way, 0 to 1. @param size values of one latent.
 */
export function batchInterpolation(
  from: Float32Array,
  to: Float32Array,
  step: number,
  size: number,
  mode: InterpolationName,
): Float32Array {
  const stepped = new Float32Array(from.length);
  for (let begin = 0; begin < from.length; begin += size) {
    const [a, b] = [from.subarray(begin, begin + size), to.subarray(begin, begin + size)];
    const [ofA, ofB] = mode === 'lerp' ? [1 - step, step] : slerpWeights(a, b, step);
    for (let i = 0; i < size; i++) stepped[begin + i] = ofA * (a[i] as number) + ofB * (b[i] as number);
  }
  return stepped;
}

/** Spherical interpolation (Shoemake 1985); on a line where an end is 0 or both have one direction. */
function slerpWeights(a: Float32Array, b: Float32Array, step: number): [number, number] {
  let [dot, squareA, squareB] = [0, 0, 0];
  for (const [i, x] of a.entries()) {
    const y = b[i] as number;
    dot += x * y;
    squareA += x * x;
    squareB += y * y;
  }
  const cosine = dot / Math.sqrt(squareA * squareB);
  if (!(Math.sqrt(Math.min(squareA, squareB)) >= TINY && Math.abs(cosine) <= 1 - TINY)) return [1 - step, step];
  const angle = Math.acos(cosine);
  return [Math.sin((1 - step) * angle) / Math.sin(angle), Math.sin(step * angle) / Math.sin(angle)];
}

/** The distances between two percentiles, in their order. The bounds are distances themselves, as numpy's 'lower' and 'higher'. */
export function withoutExtremes(distances: readonly number[], lower: number | null, higher: number | null): number[] {
  const sorted = Float64Array.from(distances).sort();
  const place = (percent: number) => (percent / 100) * (sorted.length - 1);
  const low = lower === null ? Number.NEGATIVE_INFINITY : (sorted[Math.floor(place(lower))] as number);
  const high = higher === null ? Number.POSITIVE_INFINITY : (sorted[Math.ceil(place(higher))] as number);
  return distances.filter((distance) => distance >= low && distance <= high);
}
