import type { BlockProducts } from '../linalg/products.ts';
import type { PointCloud } from '../metric.ts';

/**
 * A cloud as the matrix product sees it: y = scale (x - centre), with the centre and scale shared by both clouds.
 * Centring shrinks the norms and with them the error of the product. The scale brings the largest norm to at most 1, where
 * float32 cannot overflow; it is a power of two, which does not change comparisons.
 */
export interface NormalisedCloud {
  readonly cloud: PointCloud;
  readonly centre: Float64Array;
  readonly scale: number;
  /** The Euclidean norm of each y. */
  readonly norms: Float64Array;
}

/** `a` and `b` with their common centre and scale. */
export function normaliseTogether(a: PointCloud, b: PointCloud): [NormalisedCloud, NormalisedCloud] {
  const centre = new Float64Array(a.dims);
  for (const { data, dims } of [a, b]) {
    for (let at = 0; at < data.length; ) {
      for (let d = 0; d < dims; d++) centre[d] = (centre[d] as number) + (data[at++] as number);
    }
  }
  for (let d = 0; d < a.dims; d++) centre[d] = (centre[d] as number) / (a.count + b.count);
  const aNorms = normsAbout(centre, a);
  const bNorms = normsAbout(centre, b);
  const largest = Math.max(
    aNorms.reduce((x, y) => Math.max(x, y)),
    bNorms.reduce((x, y) => Math.max(x, y)),
  );
  const scale = largest > 0 ? 2 ** -Math.ceil(Math.log2(largest) + 1e-9) : 1;
  return [
    { cloud: a, centre, scale, norms: aNorms.map((norm) => norm * scale) },
    { cloud: b, centre, scale, norms: bNorms.map((norm) => norm * scale) },
  ];
}

/** Writes the y of rows `start` to `end` into `target` and returns the part that was written. */
export function normalisedRows(
  normalised: NormalisedCloud,
  start: number,
  end: number,
  target: Float32Array,
): Float32Array {
  const { cloud, centre, scale } = normalised;
  const { data, dims } = cloud;
  let from = start * dims;
  for (let to = 0; to < (end - start) * dims; ) {
    for (let d = 0; d < dims; d++) target[to++] = ((data[from++] as number) - (centre[d] as number)) * scale;
  }
  return target.subarray(0, (end - start) * dims);
}

/** The squared distance of two points in normalised units, evaluated in float64 from the original values. */
export function exactSquaredDistance(a: NormalisedCloud, i: number, b: NormalisedCloud, j: number): number {
  return squaredDistance(a.cloud.data, i, b.cloud.data, j, a.cloud.dims) * a.scale * a.scale;
}

/**
 * How far |y|² + |z|² - 2 p, with p the product of the float32 roundings of y and z, can be from what
 * `exactSquaredDistance` gives: at most `product` |y||z| + `norms` (|y|² + |z|²) + `underflow`.
 */
export interface DistanceError {
  readonly product: number;
  readonly norms: number;
  readonly underflow: number;
}

/**
 * The worst case by Higham's bound for an inner product in any order of summation, |error| <= n u / (1 - n u) |y||z|
 * (Accuracy and Stability of Numerical Algorithms, eq. 3.5), with the rounding of the inputs to float32.
 */
export function distanceError(products: BlockProducts, dims: number): DistanceError {
  const accumulation = (dims + 1) * products.roundoff;
  // Past this the bound says nothing: then every pair is decided in float64.
  const relative = accumulation < 0.5 ? accumulation / (1 - accumulation) : Number.POSITIVE_INFINITY;
  return {
    product: 2.02 * (relative + 2 * 2 ** -24 + 2 ** -24),
    norms: 8 * (dims + 4) * 2 ** -53,
    // Every one of dims products, and of the values themselves, may lose what is below 2^-126.
    underflow: (dims + 1) * 2 ** -120,
  };
}

function normsAbout(centre: Float64Array, cloud: PointCloud): Float64Array {
  const norms = new Float64Array(cloud.count);
  for (let row = 0; row < cloud.count; row++)
    norms[row] = Math.sqrt(squaredDistance(cloud.data, row, centre, 0, cloud.dims));
  return norms;
}

/** The squared distance of row `i` of `a` and row `j` of `b`, summed in float64 in the order of the dimensions. */
function squaredDistance(
  a: Float32Array | Float64Array,
  i: number,
  b: Float32Array | Float64Array,
  j: number,
  dims: number,
): number {
  const aStart = i * dims;
  const bStart = j * dims;
  let sum = 0;
  for (let d = 0; d < dims; d++) {
    const difference = (a[aStart + d] as number) - (b[bStart + d] as number);
    sum += difference * difference;
  }
  return sum;
}
