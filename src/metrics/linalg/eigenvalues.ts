import { IsoDiffusionError } from '../../errors.ts';

/** More than any matrix needs: QL takes 1 to 2 steps an eigenvalue (Parlett, The Symmetric Eigenvalue Problem). */
const MOST_STEPS = 100;

/**
 * The eigenvalues of a symmetric matrix, in no particular order, each within a few roundings of the largest one:
 * Householder's reduction to a tridiagonal matrix, then implicit QL.
 *
 * @param matrix row-major n x n; only j <= i is read. It is overwritten.
 */
export function symmetricEigenvalues(matrix: Float64Array, n: number): Float64Array {
  const { diagonal, offDiagonal } = tridiagonalise(matrix, n);
  implicitQl(diagonal, offDiagonal);
  return diagonal;
}

/**
 * Householder's reduction (Golub & Van Loan, algorithm 8.3.1). The update of each step is applied while the next one
 * reads the matrix for its product: a matrix larger than the cache is read and written once a step.
 */
function tridiagonalise(matrix: Float64Array, n: number): { diagonal: Float64Array; offDiagonal: Float64Array } {
  const diagonal = new Float64Array(n);
  const offDiagonal = new Float64Array(n);
  let v = new Float64Array(n);
  let nextV = new Float64Array(n);
  let w = new Float64Array(n);
  let product = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    for (let i = k; i < n; i++) {
      nextV[i] =
        (matrix[i * n + k] as number) - (v[i] as number) * (w[k] as number) - (w[i] as number) * (v[k] as number);
    }
    diagonal[k] = nextV[k] as number;
    if (k === n - 1) break;
    const { tau, alpha } = reflectorFrom(nextV, k + 1);
    offDiagonal[k] = alpha;
    product.fill(0);
    updateAndMultiply(matrix, n, k + 1, v, w, nextV, product);
    toSecondVector(product, nextV, tau, k + 1);
    [v, nextV] = [nextV, v];
    [w, product] = [product, w];
  }
  return { diagonal, offDiagonal };
}

/** Turns x[start...] into v with (I - tau v vᵀ) x = alpha e₁. */
function reflectorFrom(x: Float64Array, start: number): { tau: number; alpha: number } {
  let largest = 0;
  for (let i = start; i < x.length; i++) largest = Math.max(largest, Math.abs(x[i] as number));
  if (largest === 0) return { tau: 0, alpha: 0 };
  let sum = 0;
  for (let i = start; i < x.length; i++) sum += ((x[i] as number) / largest) ** 2;
  const first = x[start] as number;
  const alpha = first > 0 ? -largest * Math.sqrt(sum) : largest * Math.sqrt(sum);
  const scale = first - alpha;
  x[start] = 1;
  for (let i = start + 1; i < x.length; i++) x[i] = (x[i] as number) / scale;
  return { tau: -scale / alpha, alpha };
}

/** A -= v wᵀ + w vᵀ on rows and columns >= start of the lower triangle, and product = A next. */
function updateAndMultiply(
  matrix: Float64Array,
  n: number,
  start: number,
  v: Float64Array,
  w: Float64Array,
  next: Float64Array,
  product: Float64Array,
): void {
  for (let i = start; i < n; i++) {
    const row = i * n;
    const vi = v[i] as number;
    const wi = w[i] as number;
    const ni = next[i] as number;
    let sum = 0;
    for (let j = start; j < i; j++) {
      const value = (matrix[row + j] as number) - vi * (w[j] as number) - wi * (v[j] as number);
      matrix[row + j] = value;
      sum += value * (next[j] as number);
      product[j] = (product[j] as number) + value * ni;
    }
    const onDiagonal = (matrix[row + i] as number) - 2 * vi * wi;
    matrix[row + i] = onDiagonal;
    product[i] = sum + onDiagonal * ni;
  }
}

/** w = tau p - (tau² pᵀv / 2) v, in place of p. */
function toSecondVector(product: Float64Array, v: Float64Array, tau: number, start: number): void {
  let inner = 0;
  for (let i = start; i < v.length; i++) inner += (product[i] as number) * (v[i] as number);
  const half = (tau * tau * inner) / 2;
  for (let i = start; i < v.length; i++) product[i] = tau * (product[i] as number) - half * (v[i] as number);
}

/** Implicit QL with Wilkinson's shift (EISPACK `imtql1`), ended where an entry is below the rounding of the matrix. */
function implicitQl(d: Float64Array, e: Float64Array): void {
  const n = d.length;
  let norm = 0;
  for (let i = 0; i < n; i++) norm = Math.max(norm, Math.abs(d[i] as number) + Math.abs(e[i] as number));
  const negligible = Number.EPSILON * norm;
  for (let l = 0; l < n; l++) {
    for (let step = 0; ; step++) {
      let m = l;
      while (m < n - 1 && Math.abs(e[m] as number) > negligible) m++;
      if (m === l) break;
      if (step === MOST_STEPS)
        throw new IsoDiffusionError(`the eigenvalues of a ${n} x ${n} matrix did not converge: it holds NaN?`);
      qlStep(d, e, l, m);
    }
  }
}

function qlStep(d: Float64Array, e: Float64Array, l: number, m: number): void {
  const el = e[l] as number;
  const shift = ((d[l + 1] as number) - (d[l] as number)) / (2 * el);
  const root = Math.hypot(shift, 1);
  let g = (d[m] as number) - (d[l] as number) + el / (shift + (shift >= 0 ? root : -root));
  let s = 1;
  let c = 1;
  let p = 0;
  for (let i = m - 1; i >= l; i--) {
    const f = s * (e[i] as number);
    const b = c * (e[i] as number);
    const r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) {
      d[i + 1] = (d[i + 1] as number) - p;
      e[m] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    const shifted = (d[i + 1] as number) - p;
    const t = ((d[i] as number) - shifted) * s + 2 * c * b;
    p = s * t;
    d[i + 1] = shifted + p;
    g = c * t - b;
  }
  d[l] = (d[l] as number) - p;
  e[l] = g;
  e[m] = 0;
}
