import { requireObject } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { semidefiniteCholesky } from '../linalg/cholesky.ts';
import { symmetricEigenvalues } from '../linalg/eigenvalues.ts';
import { addRowProducts } from '../linalg/products.ts';
import { type Metric, requireSamples } from '../metric.ts';
import { checkShape, type GaussianStatistics } from './statistics.ts';

/** The largest imaginary part of the square root that pytorch-fid lets pass. */
const IMAGINARY_TOLERANCE = 1e-3;

/** 'fid': the Fréchet distance, with Inception features the FID. */
export const fid: Metric<Record<never, never>> = {
  kinds: ['images', 'points'],
  needs: { real: ['statistics'], fake: ['statistics'] },
  options: {},
  better: { fid: 'lower' },
  check: (counts) => requireSamples('fid', counts, 2, 'a covariance'),
  compute: ({ real, fake }) => ({ fid: frechetDistance(real.statistics, fake.statistics) }),
};

/** 'fd-dinov2': the Fréchet distance of DINOv2's features (Stein et al. 2023). */
export const fdDinov2: Metric<Record<never, never>> = {
  ...fid,
  kinds: ['images'],
  extractor: 'dinov2',
  better: { fd_dinov2: 'lower' },
  check: (counts) => requireSamples('fd-dinov2', counts, 2, 'a covariance'),
  compute: ({ real, fake }) => ({ fd_dinov2: frechetDistance(real.statistics, fake.statistics) }),
};

/** Options of `frechetDistance`. */
export interface FrechetOptions {
  /**
   * Added to both diagonals when the square root is not real, as pytorch-fid does when scipy finds none: at least 0.
   * Singular covariances do not need it. Default 1e-6.
   */
  readonly eps?: number | undefined;
}

/**
 * The Fréchet distance of two Gaussians, |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½) (Dowson & Landau 1982): with
 * Inception features, the FID of Heusel et al. 2017. At least 0, in squared units of the features.
 *
 * (Σ₁ Σ₂)^½ has the trace of the root of the symmetric Σ₁^½ Σ₂ Σ₁^½, and U Σ₂ Uᵀ has the same eigenvalues for any factor
 * Σ₁ = UᵀU. One pivoted Cholesky factor and one reduction to tridiagonal form are therefore enough, without eigenvectors
 * or complex numbers. Covariances may be singular (fewer images than dimensions); scipy's `sqrtm` of the product is
 * inaccurate there.
 *
 * @throws {InvalidArgumentError} for different dims, values that are not finite, or a `sigma` that is not a covariance:
 * not symmetric, or with an eigenvalue that is negative beyond rounding even with `eps` on the diagonal.
 *
 * @example
 * const fid = frechetDistance(await readStatistics('real.npz'), fake.gaussian());
 */
export function frechetDistance(a: GaussianStatistics, b: GaussianStatistics, options: FrechetOptions = {}): number {
  requireObject('the options of frechetDistance', options);
  const { eps = 1e-6 } = options;
  if (!Number.isFinite(eps) || eps < 0) throw new InvalidArgumentError(`eps is ${eps}; it must be at least 0.`);
  checkGaussian('the first', a);
  checkGaussian('the second', b);
  if (a.dims !== b.dims)
    throw new InvalidArgumentError(
      `the statistics have ${a.dims} and ${b.dims} dimensions; both must come from the same extractor.`,
    );
  const { dims } = a;
  const rootTrace =
    traceOfRoot(a.sigma, b.sigma, dims) ?? traceOfRoot(raised(a.sigma, dims, eps), raised(b.sigma, dims, eps), dims);
  if (rootTrace === undefined)
    throw new InvalidArgumentError(
      `a covariance has negative eigenvalues, also with eps ${eps} on its diagonal: the statistics are damaged. Compute them again.`,
    );
  let meanTerm = 0;
  for (let d = 0; d < dims; d++) meanTerm += ((a.mu[d] as number) - (b.mu[d] as number)) ** 2;
  // The covariance term is never negative; for equal sets the difference of its traces can round to below 0.
  return meanTerm + Math.max(0, trace(a.sigma, dims) + trace(b.sigma, dims) - 2 * rootTrace);
}

/** tr (Σ₁ Σ₂)^½; undefined where it is not real. */
function traceOfRoot(sigma1: Float64Array, sigma2: Float64Array, n: number): number | undefined {
  const cholesky = semidefiniteCholesky(sigma1, n);
  if (!cholesky) return undefined;
  const { factor, rank, order } = cholesky;
  const half = new Float64Array(rank * n);
  addRowProducts(half, n, factor, rank, permuted(sigma2, n, order), n, n, (i) => i);
  const product = new Float64Array(rank * rank);
  // half Uᵀ is symmetric: its lower triangle is enough.
  addRowProducts(product, rank, half, rank, factor, rank, n, undefined, (i) => i + 1);
  const eigenvalues = symmetricEigenvalues(product, rank);
  const largest = eigenvalues.reduce((x, y) => Math.max(x, y), 0);
  const smallest = eigenvalues.reduce((x, y) => Math.min(x, y), 0);
  // A negative eigenvalue is an imaginary part of the root.
  if (Math.sqrt(-smallest) > IMAGINARY_TOLERANCE * Math.max(1, Math.sqrt(largest))) return undefined;
  return eigenvalues.reduce((sum, value) => sum + Math.sqrt(Math.max(0, value)), 0);
}

function permuted(matrix: Float64Array, n: number, order: Uint32Array): Float64Array {
  const result = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const source = (order[i] as number) * n;
    for (let j = 0; j < n; j++) result[i * n + j] = matrix[source + (order[j] as number)] as number;
  }
  return result;
}

function raised(matrix: Float64Array, n: number, eps: number): Float64Array {
  const result = matrix.slice();
  for (let i = 0; i < n; i++) result[i * n + i] = (result[i * n + i] as number) + eps;
  return result;
}

function trace(matrix: Float64Array, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += matrix[i * n + i] as number;
  return sum;
}

function checkGaussian(which: string, statistics: GaussianStatistics): void {
  checkShape(statistics);
  const { dims, mu, sigma } = statistics;
  for (const [name, values] of Object.entries({ mu, sigma })) {
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad < 0) continue;
    throw new InvalidArgumentError(`${name} of ${which} statistics holds ${values[bad]} at ${bad}; it must be finite.`);
  }
  const largest = sigma.reduce((x, y) => Math.max(x, Math.abs(y)), 0);
  for (let i = 0; i < dims; i++) {
    for (let j = 0; j < i; j++) {
      const difference = Math.abs((sigma[i * dims + j] as number) - (sigma[j * dims + i] as number));
      // Files of float32 values round both halves alike; anything larger is not a covariance.
      if (difference <= 1e-6 * largest) continue;
      throw new InvalidArgumentError(
        `sigma of ${which} statistics is not symmetric: entries (${i}, ${j}) and (${j}, ${i}) differ by ${difference}.`,
      );
    }
  }
}
