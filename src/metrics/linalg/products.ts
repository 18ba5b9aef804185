/**
 * Inner products of rows, which all metrics of features come down to: in float64 for covariances, and block by block for
 * pairwise distances and kernels. Here in plain TypeScript; `block-gemm.ts` has them as one ONNX `Gemm`.
 */

/**
 * The matrix product behind PRDC in high dimension, and behind KID. PRDC's results are the same with any implementation:
 * pairs that `roundoff` leaves open are decided in float64.
 */
export interface BlockProducts {
  /** Rows in a block. At most nine blocks of `block_size` x dims float32 and one product are held at a time. */
  readonly block_size: number;
  /** The unit roundoff of the accumulation: 2^-24 for float32, 2^-53 for float64, 2^-11 for TF32. */
  readonly roundoff: number;
  /**
   * a bᵀ: the inner products of each row of `a` (aCount x dims) with each row of `b` (bCount x dims), row-major
   * aCount x bCount. That is ONNX `Gemm` with transB = 1. The inputs are overwritten after the promise resolves.
   */
  multiply(
    a: Float32Array,
    aCount: number,
    b: Float32Array,
    bCount: number,
    dims: number,
  ): Float32Array | Float64Array | Promise<Float32Array | Float64Array>;
}

/** Plain TypeScript, accumulating in float64: about 4 GFLOP/s. Its blocks are small, to leave the event loop turns. */
export const plainBlockProducts: BlockProducts = {
  block_size: 256,
  roundoff: 2 ** -53,
  multiply(a, aCount, b, bCount, dims) {
    const products = new Float64Array(aCount * bCount);
    addRowProducts(products, bCount, Float64Array.from(a), aCount, Float64Array.from(b), bCount, dims);
    return products;
  },
};

/**
 * Adds to `out` (row-major, `stride` values a row) the inner products of rows of `a` with rows of `b`, both with rows
 * of `length` values: out[i][j] += Σ a[i][d] b[j][d] over d >= `from(i)`, for i < aCount and j < `until(i)`.
 *
 * Rows of `a` go in pairs and rows of `b` in fours; the eight sums share their loads, which gives about 4 GFLOP/s. `from` and
 * `until` are asked for the first row of each pair. More columns than `until` may be written, but at most bCount.
 */
export function addRowProducts(
  out: Float64Array,
  stride: number,
  a: Float64Array,
  aCount: number,
  b: Float64Array,
  bCount: number,
  length: number,
  from: (i: number) => number = () => 0,
  until: (i: number) => number = () => bCount,
): void {
  for (let i = 0; i < aCount; i += 2) {
    const start = from(i);
    // The second row of a pair may reach one column further.
    const end = Math.min(bCount, until(i) + 1);
    const rows = Math.min(2, aCount - i);
    let j = 0;
    if (rows === 2) {
      for (; j + 4 <= end; j += 4) addTile(out, i * stride + j, stride, a, i * length, b, j * length, length, start);
    }
    for (; j < end; j++) {
      for (let r = 0; r < rows; r++) {
        const at = (i + r) * stride + j;
        out[at] = (out[at] as number) + innerProduct(a, (i + r) * length, b, j * length, length, start);
      }
    }
  }
}

function addTile(
  out: Float64Array,
  at: number,
  stride: number,
  a: Float64Array,
  aAt: number,
  b: Float64Array,
  bAt: number,
  length: number,
  start: number,
): void {
  const a1 = aAt + length;
  const b1 = bAt + length;
  const b2 = b1 + length;
  const b3 = b2 + length;
  let s00 = 0;
  let s01 = 0;
  let s02 = 0;
  let s03 = 0;
  let s10 = 0;
  let s11 = 0;
  let s12 = 0;
  let s13 = 0;
  for (let d = start; d < length; d++) {
    const x = a[aAt + d] as number;
    const y = a[a1 + d] as number;
    const c0 = b[bAt + d] as number;
    const c1 = b[b1 + d] as number;
    const c2 = b[b2 + d] as number;
    const c3 = b[b3 + d] as number;
    s00 += x * c0;
    s01 += x * c1;
    s02 += x * c2;
    s03 += x * c3;
    s10 += y * c0;
    s11 += y * c1;
    s12 += y * c2;
    s13 += y * c3;
  }
  const below = at + stride;
  out[at] = (out[at] as number) + s00;
  out[at + 1] = (out[at + 1] as number) + s01;
  out[at + 2] = (out[at + 2] as number) + s02;
  out[at + 3] = (out[at + 3] as number) + s03;
  out[below] = (out[below] as number) + s10;
  out[below + 1] = (out[below + 1] as number) + s11;
  out[below + 2] = (out[below + 2] as number) + s12;
  out[below + 3] = (out[below + 3] as number) + s13;
}

function innerProduct(
  a: Float64Array,
  aAt: number,
  b: Float64Array,
  bAt: number,
  length: number,
  start: number,
): number {
  let sum = 0;
  for (let d = start; d < length; d++) sum += (a[aAt + d] as number) * (b[bAt + d] as number);
  return sum;
}
