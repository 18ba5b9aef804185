import { InvalidArgumentError } from '../errors.ts';
import { kernelSum } from './kernel-sum.ts';
import { createBlockGemm } from './linalg/block-gemm.ts';
import { type BlockProducts, plainBlockProducts } from './linalg/products.ts';
import { checkPointCloud, type Metric, type PointCloud, requireSameDims, requireSamples } from './metric.ts';

/** Width of the Gaussian kernel, and the factor that makes the values readable, of google-research/cmmd. */
const SIGMA = 10;
const SCALE = 1000;

/** 'cmmd': CLIP's maximum mean discrepancy. */
export const cmmd: Metric<Record<never, never>> = {
  kinds: ['images'],
  extractor: 'clip',
  needs: { real: ['features'], fake: ['features'] },
  options: {},
  better: { cmmd: 'lower' },
  check: (counts) => requireSamples('cmmd', counts, 1, 'a mean'),
  async compute({ real, fake, on_progress, signal }) {
    const block_products = await createBlockGemm('cpu');
    try {
      return { cmmd: await clipDiscrepancy(real.features, fake.features, { block_products, on_progress, signal }) };
    } finally {
      await block_products.dispose();
    }
  },
};

/** How `clipDiscrepancy` computes. */
export interface ClipDiscrepancyOptions {
  /** The matrix product. Default: plain TypeScript in float64. */
  readonly block_products?: BlockProducts | undefined;
  /** Called with the finished fraction, 0 to 1. Default: none. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
  /** Ends the computation with the signal's reason. Default: none. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * CMMD (Jayasumana et al. 2024): 1000 times the squared maximum mean discrepancy of embeddings of length 1, with the kernel
 * exp(-|x - y|^2 / (2 sigma^2)), sigma 10, by the biased estimator, as google-research/cmmd computes it. At least 0 but for
 * rounding.
 *
 * @param real CLIP's image embeddings, of any length: they are scaled to length 1.
 * @throws {InvalidArgumentError} for values that are not finite, different dims, or an embedding of zeros.
 *
 * @example
 * const cmmd = await clipDiscrepancy(real, fake);
 */
export async function clipDiscrepancy(
  real: PointCloud,
  fake: PointCloud,
  { block_products: products = plainBlockProducts, on_progress, signal }: ClipDiscrepancyOptions = {},
): Promise<number> {
  checkPointCloud('real', real);
  checkPointCloud('fake', fake);
  requireSameDims(real, fake);
  const [x, y] = [unitVectors('real', real), unitVectors('fake', fake)];
  const pairs = [
    [x, x, 1],
    [y, y, 1],
    [x, y, -2],
  ] as const;
  let discrepancy = 0;
  for (const [index, [a, b, factor]] of pairs.entries()) {
    // k - 1, whose ones cancel in the sum: kernels of unit vectors lie between 0.98 and 1.
    const kernel = (product: number) => Math.expm1((product - 1) / SIGMA ** 2);
    const sum = await kernelSum(a, b, products, kernel, (fraction) => {
      signal?.throwIfAborted();
      on_progress?.((index + fraction) / pairs.length);
    });
    discrepancy += (factor * sum) / (a.count * b.count);
  }
  return SCALE * discrepancy;
}

/** The vectors divided by their lengths: then |x - y|^2 = 2 - 2 xᵀy. */
function unitVectors(name: string, { data, count, dims }: PointCloud): PointCloud {
  const units = new Float32Array(data.length);
  for (let begin = 0; begin < data.length; begin += dims) {
    const vector = data.subarray(begin, begin + dims);
    const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
    if (length === 0)
      throw new InvalidArgumentError(`${name} has an embedding of zeros at index ${begin / dims}: it has no direction`);
    for (let d = 0; d < dims; d++) units[begin + d] = (vector[d] as number) / length;
  }
  return { data: units, count, dims };
}
