import { Graph } from '../../graph/graph.ts';
import { writeOnnx } from '../../graph/onnx/write.ts';
import { gemm } from '../../graph/ops/matmul.ts';
import { type Device, isCuda, resolveDevice } from '../../runtime/device.ts';
import { float32Data, hostTensor, Session } from '../../runtime/session.ts';
import type { BlockProducts } from './products.ts';

/** Rows of a block: large enough that the product outweighs reading its operands, 16 MB at 2,048 dimensions. */
const GEMM_ROWS = 2048;

/** `BlockProducts` that hold a session: call `dispose` when done. */
export interface BlockGemm extends BlockProducts {
  /** Frees the session. */
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
  const session = await Session.create(productModel(), isCuda(resolved) ? 'cpu' : resolved);
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
