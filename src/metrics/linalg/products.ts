/**
 * Inner products of rows, which all metrics of features come down to: in float64 for covariances, and block by block for
 * pairwise distances and kernels, in plain TypeScript or as one ONNX `Gemm`.
 */

import { Graph } from '../../graph/graph.ts';
import { writeOnnx } from '../../graph/onnx/write.ts';
import { gemm } from '../../graph/ops/index.ts';
import { type Device, resolveDevice } from '../../runtime/device.ts';
import { float32Data, hostTensor, Session } from '../../runtime/session.ts';

/**
 * The matrix product behind PRDC in high dimension, and behind KID. PRDC's results are the same with any implementation:
 * pairs that `roundoff` leaves open are decided in float64.
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

/** Rows of a block: large enough that the product outweighs reading its operands, 8 MB at 2,048 dimensions. */
const GEMM_ROWS = 1024;

/** `BlockProducts` that hold a session: call `dispose` when done. */
export interface BlockGemm extends BlockProducts {
  dispose(): Promise<void>;
}

/**
 * The products a bᵀ of blocks of rows in float32, by one ONNX `Gemm` on a device.
 *
 * On `cuda` the product runs on the cpu instead: onnxruntime multiplies in TF32 there and its Node.js binding cannot
 * turn that off, and products of 11 bits leave almost every pair of points to be decided in float64.
 *
 * @param device default `cpu`.
 * @throws {DeviceError} when the device is not usable.
 *
 * @example
 * const products = await createBlockGemm('cpu');
 * const prdc = await precisionRecallDensityCoverage(real, fake, { block_products: products });
 * await products.dispose();
 */
export async function createBlockGemm(device: Device = 'cpu'): Promise<BlockGemm> {
  const resolved = await resolveDevice(device);
  const session = await Session.create(productModel(), resolved === 'cuda' ? 'cpu' : resolved);
  return {
    block_size: GEMM_ROWS,
    roundoff: 2 ** -24,
    async multiply(a, aCount, b, bCount, dims) {
      const { product } = await session.run({
        a: hostTensor('float32', [aCount, dims], a),
        b: hostTensor('float32', [bCount, dims], b),
      });
      return float32Data(product, 'product');
    },
    dispose: () => session.release(),
  };
}

function productModel(): Uint8Array {
  const graph = new Graph('block-product');
  const a = graph.input('a', 'float32', ['a_count', 'dims']);
  const b = graph.input('b', 'float32', ['b_count', 'dims']);
  graph.output('product', gemm(a, b, undefined, { transB: true }));
  return writeOnnx(graph);
}

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
