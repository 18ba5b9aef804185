import { requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import { kernelSum } from './kernel-sum.ts';
import { createBlockGemm } from './linalg/block-gemm.ts';
import { type BlockProducts, plainBlockProducts } from './linalg/products.ts';
import {
  checkPointCloud,
  type Metric,
  meanAndStd,
  type PointCloud,
  pickRows,
  requireInteger,
  requireSameDims,
  requireSamples,
} from './metric.ts';

/** The options of the metric 'kid'. */
export interface KidSettings {
  /** Pairs of random subsets that mean and standard deviation are over: an integer of at least 1. Default 100. */
  readonly kid_subsets: number;
  /** Samples of a subset: an integer of at least 2. Default 1,000, or half of the smaller set where that is less. */
  readonly kid_subset_size: number | undefined;
  /** Degree of the kernel (γ xᵀy + coef0)^degree: an integer of at least 1. Default 3. */
  readonly kid_degree: number;
  /** γ of the kernel, above 0. Default 1 / dims. */
  readonly kid_gamma: number | undefined;
  /** coef0 of the kernel, any finite number. Default 1. */
  readonly kid_coef0: number;
}

/** 'kid': the Kernel Inception Distance, by default with the kernel of its paper, by onnxruntime's product on the cpu. */
export const kid: Metric<KidSettings> = {
  kinds: ['images', 'points'],
  needs: { real: ['features'], fake: ['features'] },
  options: { kid_subsets: 100, kid_subset_size: undefined, kid_degree: 3, kid_gamma: undefined, kid_coef0: 1 },
  better: { kid_mean: 'lower' },
  check(counts, { kid_subsets, kid_subset_size = 2, kid_degree, kid_gamma, kid_coef0 }) {
    checkKernel('kid_', { degree: kid_degree, gamma: kid_gamma, coef0: kid_coef0 });
    requireInteger('kid_subsets', kid_subsets, 1);
    requireInteger('kid_subset_size', kid_subset_size, 2);
    requireSamples('kid', counts, kid_subset_size, 'a subset of KID');
  },
  resolveOptions({ real = 0, fake = 0 }, { kid_subsets, kid_subset_size, ...kernel }) {
    return { ...chosenSubsets(real, fake, kid_subsets, kid_subset_size), ...kernel };
  },
  async compute({ real, fake, options, seed, on_progress, signal }) {
    const block_products = await createBlockGemm('cpu');
    try {
      const { mean, std } = await kernelDistance(real.features, fake.features, {
        num_subsets: options.kid_subsets,
        subset_size: options.kid_subset_size,
        degree: options.kid_degree,
        gamma: options.kid_gamma,
        coef0: options.kid_coef0,
        seed,
        block_products,
        on_progress,
        signal,
      });
      return { kid_mean: mean, ...(std === undefined ? {} : { kid_std: std }) };
    } finally {
      await block_products.dispose();
    }
  },
};

/** Kernel and subsets of `kernelDistance`. */
export interface KernelDistanceOptions {
  /** Pairs of subsets that the mean is over, an integer of at least 1. Default 100. */
  readonly num_subsets?: number | undefined;
  /**
   * Vectors of a subset, drawn without replacement: an integer of at least 2. Default 1,000, or half of the smaller set
   * where that is less: subsets that are nearly the whole set differ too little to show how certain the mean is.
   */
  readonly subset_size?: number | undefined;
  /** Degree of the kernel (γ xᵀy + coef0)^degree: an integer of at least 1. Default 3. */
  readonly degree?: number | undefined;
  /** γ of the kernel, above 0. Default 1 / dims. */
  readonly gamma?: number | undefined;
  /** coef0 of the kernel, any finite number. Default 1. */
  readonly coef0?: number | undefined;
  /** Seed of the subsets, an integer of at least 0. Default 0. */
  readonly seed?: number | undefined;
  /** Called with the finished fraction, 0 to 1, after each subset. Default: none. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
  /** Ends the computation with the signal's reason. Default: none. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The matrix product. Default: plain TypeScript in float64. `createBlockGemm` changed a KID of 0.00335 at 2,048
   * dimensions by 4e-10, and took 0.17 s a subset of 900 instead of 4.3 s.
   */
  readonly block_products?: BlockProducts | undefined;
}

/** The unbiased squared maximum mean discrepancy over subsets. Its mean can be below 0 for equal distributions. */
export interface KernelDistance {
  /** Over the subsets. */
  mean: number;
  /**
   * Of the subsets' values, with divisor `num_subsets`, as numpy's `std`. Undefined for one subset, and where a set has no
   * more than `subset_size` vectors: then every subset of it is the whole set, and the deviation would leave out how
   * uncertain that side is. Where both sets are so, the one value is computed once.
   */
  std: number | undefined;
  /** Vectors in a subset of each side. */
  subset_size: number;
}

/**
 * The kernel distance of two sets of features, the unbiased MMD² with a polynomial kernel: with Inception features,
 * the KID of Bińkowski et al. 2018 (eq. 4), computed over random subsets as their reference and torch-fidelity do.
 *
 * @throws {InvalidArgumentError} for values that are not finite, different dims, a subset larger than a set, or an
 * option out of range.
 *
 * @example
 * const { mean, std, subset_size } = await kernelDistance(real, fake, { num_subsets: 100, seed: 0 });
 */
export async function kernelDistance(
  real: PointCloud,
  fake: PointCloud,
  options: KernelDistanceOptions = {},
): Promise<KernelDistance> {
  requireObject('the options of kernelDistance', options);
  checkPointCloud('real', real);
  checkPointCloud('fake', fake);
  const { seed = 0, on_progress, signal } = options;
  const chosen = chosenSubsets(real.count, fake.count, options.num_subsets ?? 100, options.subset_size);
  const { kid_subsets: num_subsets, kid_subset_size: size } = chosen;
  checkOptions(real, fake, size, num_subsets, seed);
  checkKernel('', options);
  const kernel = {
    degree: options.degree ?? 3,
    gamma: options.gamma ?? 1 / real.dims,
    coef0: options.coef0 ?? 1,
    products: options.block_products ?? plainBlockProducts,
  };
  const stream = new RandomStream(seed, STREAM.metrics);
  const values: number[] = [];
  for (let subset = 0; subset < num_subsets; subset++) {
    signal?.throwIfAborted();
    const x = pickRows(real, stream.permutation(real.count).subarray(0, size));
    const y = pickRows(fake, stream.permutation(fake.count).subarray(0, size));
    values.push(await squaredDiscrepancy(x, y, kernel));
    on_progress?.((subset + 1) / num_subsets);
  }
  const { mean, std } = meanAndStd(values);
  const isWhole = size === Math.min(real.count, fake.count);
  return { mean, std: isWhole ? undefined : std, subset_size: size };
}

const LARGEST_DEFAULT_SUBSET = 1000;

/** Subsets that are all the whole sets have one value, which is computed once. */
function chosenSubsets(real: number, fake: number, subsets: number, given: number | undefined) {
  const half = Math.floor(Math.min(real, fake) / 2);
  const size = given ?? Math.max(2, Math.min(LARGEST_DEFAULT_SUBSET, half));
  return { kid_subsets: size === real && size === fake ? Math.min(1, subsets) : subsets, kid_subset_size: size };
}

interface Kernel {
  readonly degree: number;
  readonly gamma: number;
  readonly coef0: number;
  readonly products: BlockProducts;
}

/** The unbiased estimator: the diagonals of k(x, x) and k(y, y) are left out. */
async function squaredDiscrepancy(
  x: PointCloud,
  y: PointCloud,
  { products, degree, gamma, coef0 }: Kernel,
): Promise<number> {
  const kernel = (product: number) => (gamma * product + coef0) ** degree;
  const apart = (product: number, i: number, j: number) => (i === j ? 0 : kernel(product));
  const within = (await kernelSum(x, x, products, apart)) + (await kernelSum(y, y, products, apart));
  const between = await kernelSum(x, y, products, kernel);
  return within / (x.count * (x.count - 1)) - (2 * between) / (x.count * y.count);
}

/** @param prefix of the options' names, for errors. @throws {InvalidArgumentError} for values that make no kernel. */
function checkKernel(
  prefix: string,
  { degree = 3, gamma = 1, coef0 = 1 }: Pick<KernelDistanceOptions, 'degree' | 'gamma' | 'coef0'>,
): void {
  requireInteger(`${prefix}degree`, degree, 1);
  if (!(Number.isFinite(gamma) && gamma > 0))
    throw new InvalidArgumentError(`${prefix}gamma is ${gamma}; it must be a number above 0.`);
  if (!Number.isFinite(coef0))
    throw new InvalidArgumentError(`${prefix}coef0 is ${coef0}; it must be a finite number.`);
}

function checkOptions(real: PointCloud, fake: PointCloud, size: number, subsets: number, seed: number): void {
  requireSameDims(real, fake);
  requireInteger('num_subsets', subsets, 1);
  requireInteger('seed', seed, 0);
  const smaller = Math.min(real.count, fake.count);
  if (!Number.isInteger(size) || size < 2 || size > smaller)
    throw new InvalidArgumentError(
      `subset_size is ${size}; it must be an integer from 2 to the size of the smaller set, ${smaller}.`,
    );
}
