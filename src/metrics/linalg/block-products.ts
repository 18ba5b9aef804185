/**
 * The matrix product that the block path of PRDC rests on. Any implementation gives the same results, because pairs
 * too close to call within `roundoff` are decided in float64; a faster one is only faster.
 */
export interface BlockProducts {
  /** Rows in a block. Two blocks of `block_size` x dims float32 and one product are held at a time. */
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

/** Plain TypeScript, accumulating in float64: about 2 GFLOP/s. Its blocks are small, to leave the event loop turns. */
export const plainBlockProducts: BlockProducts = {
  block_size: 256,
  roundoff: 2 ** -53,
  multiply(a, aCount, b, bCount, dims) {
    const products = new Float64Array(aCount * bCount);
    for (let i = 0; i < aCount; i++) {
      const row = a.subarray(i * dims, (i + 1) * dims);
      let j = 0;
      // Four columns at once: four sums that do not wait for each other.
      for (; j + 4 <= bCount; j += 4) fourProducts(row, b, j, dims, products, i * bCount + j);
      for (; j < bCount; j++) products[i * bCount + j] = innerProduct(row, b, j, dims);
    }
    return products;
  },
};

function fourProducts(
  row: Float32Array,
  b: Float32Array,
  j: number,
  dims: number,
  out: Float64Array,
  at: number,
): void {
  const b0 = j * dims;
  const b1 = b0 + dims;
  const b2 = b1 + dims;
  const b3 = b2 + dims;
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  for (let d = 0; d < dims; d++) {
    const value = row[d] as number;
    s0 += value * (b[b0 + d] as number);
    s1 += value * (b[b1 + d] as number);
    s2 += value * (b[b2 + d] as number);
    s3 += value * (b[b3 + d] as number);
  }
  out[at] = s0;
  out[at + 1] = s1;
  out[at + 2] = s2;
  out[at + 3] = s3;
}

function innerProduct(row: Float32Array, b: Float32Array, j: number, dims: number): number {
  let sum = 0;
  for (let d = 0; d < dims; d++) sum += (row[d] as number) * (b[j * dims + d] as number);
  return sum;
}
