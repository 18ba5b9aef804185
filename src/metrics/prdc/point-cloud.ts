import { InvalidArgumentError } from '../../errors.ts';

/** Points or feature vectors, one a row: `data` is row-major, `count` x `dims`. */
export interface PointCloud {
  readonly data: Float32Array;
  readonly count: number;
  readonly dims: number;
}

/**
 * Checks that the shape fits the data and every value is finite.
 *
 * @param name how the message calls the cloud, e.g. `real`.
 * @throws InvalidArgumentError
 */
export function checkPointCloud(name: string, cloud: PointCloud): void {
  const { data, count, dims } = cloud;
  if (!Number.isInteger(count) || count < 1 || !Number.isInteger(dims) || dims < 1) {
    throw new InvalidArgumentError(
      `${name} has count ${count} and dims ${dims}; both must be integers of at least 1.`,
    );
  }
  if (data.length !== count * dims) {
    throw new InvalidArgumentError(
      `${name}.data has ${data.length} values, but ${count} points of ${dims} dimensions need ${count * dims}.`,
    );
  }
  for (let at = 0; at < data.length; at++) {
    if (Number.isFinite(data[at])) continue;
    throw new InvalidArgumentError(
      `${name} holds ${data[at]} at point ${Math.floor(at / dims)}, dimension ${at % dims}; ` +
        'every value must be finite. Remove or repair that point.',
    );
  }
}

/** The squared distance of row `i` of `a` and row `j` of `b`, summed in float64 in the order of the dimensions. */
export function squaredDistance(
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
