import { requireArray, requireObject } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { addRowProducts } from '../linalg/products.ts';

/** Rows whose outer products are summed before they join the total: 4 MB at 2,048 dimensions, about the L2 cache. */
const BLOCK_ROWS = 256;

/** The Gaussian that a Fréchet distance compares: mean and covariance (divisor n - 1) of features. */
export interface GaussianStatistics {
  /** Length of a feature vector. */
  readonly dims: number;
  /** dims values. */
  readonly mu: Float64Array;
  /** Row-major, dims x dims, symmetric. */
  readonly sigma: Float64Array;
  /** The number of feature vectors; undefined for a file that does not state it. */
  readonly count: number | undefined;
}

/**
 * Mean and covariance of features that come in batches, in float64. The features are not kept: one covariance and 256
 * vectors are in memory.
 *
 * Each block is centred on its own mean and joined by the formula of Chan, Golub & LeVeque (1979). Features far from the
 * origin lose nothing, and parts that several processes computed merge to the result of one pass.
 *
 * @example
 * const statistics = new FeatureStatistics(2048);
 * for (const images of batches) statistics.add(await extractor.extract(images));
 * await writeStatistics('real.npz', statistics.gaussian());
 */
export class FeatureStatistics {
  private rows = 0;
  private readonly mean: Float64Array;
  /** Σ (x - mean)(x - mean)ᵀ; only j <= i is kept up to date. */
  private readonly scatter: Float64Array;
  /** Vectors not joined yet, transposed: dims x BLOCK_ROWS. */
  private readonly block: Float64Array;
  private blockRows = 0;

  /** @throws {InvalidArgumentError} when `dims` is not an integer of at least 1. */
  constructor(
    /** Length of a feature vector, at least 1. */
    readonly dims: number,
  ) {
    if (!Number.isInteger(dims) || dims < 1)
      throw new InvalidArgumentError(`dims is ${dims}; it must be an integer of at least 1.`);
    this.mean = new Float64Array(dims);
    this.scatter = new Float64Array(dims * dims);
    this.block = new Float64Array(dims * BLOCK_ROWS);
  }

  /** The number of vectors added. */
  get count(): number {
    return this.rows + this.blockRows;
  }

  /**
   * Adds feature vectors.
   *
   * @param features row-major, any number of vectors of `dims` values.
   * @throws {InvalidArgumentError} for a length that is not a multiple of `dims` or values that are not finite;
   * nothing is added then.
   */
  add(features: Float32Array | Float64Array): void {
    const { dims, block } = this;
    if (features.length % dims !== 0)
      throw new InvalidArgumentError(
        `features has ${features.length} values, which is not a whole number of vectors of ${dims}.`,
      );
    const bad = features.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0)
      throw new InvalidArgumentError(
        `features holds ${features[bad]} at vector ${Math.floor(bad / dims)}, dimension ${bad % dims}; every value must be finite.`,
      );
    for (let start = 0; start < features.length; start += dims) {
      for (let d = 0; d < dims; d++) block[d * BLOCK_ROWS + this.blockRows] = features[start + d] as number;
      this.blockRows++;
      if (this.blockRows === BLOCK_ROWS) this.joinBlock();
    }
  }

  /**
   * Adds vectors that are known only by their statistics.
   *
   * @throws {InvalidArgumentError} for other dims, or statistics without a `count`.
   */
  merge(part: GaussianStatistics): void {
    const { dims, scatter } = this;
    checkShape(part);
    if (part.dims !== dims)
      throw new InvalidArgumentError(`the statistics to merge have ${part.dims} dimensions, not ${dims}.`);
    const count = part.count;
    if (count === undefined || !Number.isInteger(count) || count < 2)
      throw new InvalidArgumentError(
        `the statistics are of ${count ?? 'an unknown number of'} vectors; merging needs an integer of at least 2.`,
      );
    this.joinBlock();
    for (let at = 0; at < scatter.length; at++) {
      scatter[at] = (scatter[at] as number) + (part.sigma[at] as number) * (count - 1);
    }
    this.shiftMean(part.mu, count);
  }

  /** @throws {InvalidArgumentError} for fewer than 2 vectors, which have no covariance. */
  gaussian(): GaussianStatistics {
    this.joinBlock();
    const { dims, rows, scatter } = this;
    if (rows < 2) throw new InvalidArgumentError(`${rows} feature vectors have no covariance; add at least 2.`);
    const sigma = new Float64Array(dims * dims);
    for (let i = 0; i < dims; i++) {
      for (let j = 0; j <= i; j++) {
        const value = (scatter[i * dims + j] as number) / (rows - 1);
        sigma[i * dims + j] = value;
        sigma[j * dims + i] = value;
      }
    }
    return { dims, mu: this.mean.slice(), sigma, count: rows };
  }

  private joinBlock(): void {
    const { dims, block, blockRows, scatter } = this;
    if (blockRows === 0) return;
    const blockMean = new Float64Array(dims);
    for (let d = 0; d < dims; d++) {
      const values = block.subarray(d * BLOCK_ROWS, d * BLOCK_ROWS + blockRows);
      const mean = values.reduce((sum, value) => sum + value, 0) / blockRows;
      blockMean[d] = mean;
      for (let row = 0; row < blockRows; row++) values[row] = (values[row] as number) - mean;
      block.fill(0, d * BLOCK_ROWS + blockRows, (d + 1) * BLOCK_ROWS);
    }
    addRowProducts(scatter, dims, block, dims, block, dims, BLOCK_ROWS, undefined, (i) => i + 1);
    this.blockRows = 0;
    this.shiftMean(blockMean, blockRows);
  }

  /** Chan et al., eq. 2.1b: what two sums of squares about their own means lack, and the common mean. */
  private shiftMean(otherMean: Float64Array, otherCount: number): void {
    const { dims, mean, scatter } = this;
    const total = this.rows + otherCount;
    const weight = (this.rows * otherCount) / total;
    const delta = otherMean.map((value, d) => value - (mean[d] as number));
    for (let i = 0; i < dims; i++) {
      const scaled = (delta[i] as number) * weight;
      for (let j = 0; j <= i; j++) {
        const at = i * dims + j;
        scatter[at] = (scatter[at] as number) + scaled * (delta[j] as number);
      }
    }
    for (let d = 0; d < dims; d++) {
      mean[d] = (mean[d] as number) + (delta[d] as number) * (otherCount / total);
    }
    this.rows = total;
  }
}

/**
 * The statistics of the union of the sets that `parts` are of.
 *
 * @throws {InvalidArgumentError} for no parts, different dims, or a part without `count`.
 * @example mergeStatistics(await readStatistics('part-0.npz'), await readStatistics('part-1.npz'));
 */
export function mergeStatistics(...parts: readonly GaussianStatistics[]): GaussianStatistics {
  const [first] = parts;
  if (!first) throw new InvalidArgumentError('there are no statistics to merge; give at least one.');
  const merged = new FeatureStatistics(first.dims);
  for (const part of parts) merged.merge(part);
  return merged.gaussian();
}

/** @throws {InvalidArgumentError} when the arrays do not have `dims` and `dims` x `dims` values. */
export function checkShape(statistics: GaussianStatistics): void {
  requireObject('the statistics', statistics);
  const { dims, mu, sigma } = statistics;
  requireArray('mu of the statistics', mu);
  requireArray('sigma of the statistics', sigma);
  if (mu.length === dims && sigma.length === dims * dims) return;
  throw new InvalidArgumentError(
    `the statistics of ${dims} dimensions have ${mu.length} means and ${sigma.length} covariances; they need ${dims} and ${dims * dims}.`,
  );
}
