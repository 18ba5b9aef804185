/** S = P Uᵀ U Pᵀ with the rows of U in order of falling pivots. */
export interface SemidefiniteFactor {
  /** Row-major, rank x n; row k is zero before column k. */
  readonly factor: Float64Array;
  readonly rank: number;
  /** Column j of `factor` belongs to row and column `order[j]` of the matrix. */
  readonly order: Uint32Array;
}

/** Eigenvalues this far below zero, relative to the largest variance, are not the rounding of float32 files. */
const INDEFINITE = 1e-6;

/**
 * The Cholesky factor of a positive semidefinite matrix with diagonal pivoting, which ends at the numerical rank
 * (Higham, Accuracy and Stability of Numerical Algorithms, section 10.3).
 *
 * @param matrix row-major n x n, symmetric; not changed.
 * @returns undefined when the matrix has eigenvalues that are negative beyond rounding.
 */
export function semidefiniteCholesky(matrix: Float64Array, n: number): SemidefiniteFactor | undefined {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  const remaining = Float64Array.from({ length: n }, (_, i) => matrix[i * n + i] as number);
  const largest = remaining.reduce((a, b) => Math.max(a, b), 0);
  const tolerance = n * Number.EPSILON * largest;
  const factor = new Float64Array(n * n);
  let rank = 0;
  for (; rank < n; rank++) {
    const pivot = largestFrom(remaining, rank);
    if (!((remaining[pivot] as number) > tolerance)) break;
    swapColumns(factor, n, rank, order, remaining, pivot);
    const row = residualRow(matrix, n, order, factor, rank, rank);
    const root = Math.sqrt(remaining[rank] as number);
    row[rank] = root;
    for (let j = rank + 1; j < n; j++) {
      const value = (row[j] as number) / root;
      row[j] = value;
      remaining[j] = (remaining[j] as number) - value * value;
    }
    factor.set(row.subarray(rank), rank * n + rank);
  }
  for (let i = rank; i < n; i++) {
    const residual = residualRow(matrix, n, order, factor, rank, i);
    if (residual.subarray(rank).some((value) => !(Math.abs(value) <= INDEFINITE * largest))) return undefined;
  }
  return { factor: factor.slice(0, rank * n), rank, order };
}

/** Row `i` of the matrix in pivot order less what the first `rank` rows of the factor explain; columns >= rank. */
function residualRow(
  matrix: Float64Array,
  n: number,
  order: Uint32Array,
  factor: Float64Array,
  rank: number,
  i: number,
): Float64Array {
  const row = new Float64Array(n);
  const source = (order[i] as number) * n;
  for (let j = rank; j < n; j++) row[j] = matrix[source + (order[j] as number)] as number;
  let m = 0;
  for (; m + 4 <= rank; m += 4) {
    const at = m * n;
    const u0 = factor[at + i] as number;
    const u1 = factor[at + n + i] as number;
    const u2 = factor[at + 2 * n + i] as number;
    const u3 = factor[at + 3 * n + i] as number;
    for (let j = rank; j < n; j++) {
      row[j] =
        (row[j] as number) -
        u0 * (factor[at + j] as number) -
        u1 * (factor[at + n + j] as number) -
        u2 * (factor[at + 2 * n + j] as number) -
        u3 * (factor[at + 3 * n + j] as number);
    }
  }
  for (; m < rank; m++) {
    const u = factor[m * n + i] as number;
    for (let j = rank; j < n; j++) row[j] = (row[j] as number) - u * (factor[m * n + j] as number);
  }
  return row;
}

function largestFrom(values: Float64Array, start: number): number {
  let best = start;
  for (let i = start + 1; i < values.length; i++) {
    if ((values[i] as number) > (values[best] as number)) best = i;
  }
  return best;
}

function swapColumns(
  factor: Float64Array,
  n: number,
  rank: number,
  order: Uint32Array,
  remaining: Float64Array,
  pivot: number,
): void {
  swap(order, rank, pivot);
  swap(remaining, rank, pivot);
  for (let m = 0; m < rank; m++) swap(factor, m * n + rank, m * n + pivot);
}

function swap(values: Float64Array | Uint32Array, i: number, j: number): void {
  const kept = values[i] as number;
  values[i] = values[j] as number;
  values[j] = kept;
}
