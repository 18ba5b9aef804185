import { InvalidArgumentError } from '../errors.ts';

/**
 * Dynamic thresholding (Saharia et al. 2022, section 2.3): clips each sample to s, the given quantile of its absolute
 * values limited to [1, maxValue], and divides by s.
 *
 * @param batch the number of samples that lie one after another in `values`.
 */
export function dynamicThreshold(
  values: Float32Array,
  batch: number,
  ratio: number,
  maxValue: number,
): Float32Array {
  const size = values.length / batch;
  if (!Number.isInteger(size))
    throw new InvalidArgumentError(`${values.length} values cannot be divided into ${batch} samples`);
  const result = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += size) {
    const sample = values.subarray(start, start + size);
    const limit = Math.min(Math.max(quantile(sample.map(Math.abs).sort(), ratio), 1), maxValue);
    sample.forEach((value, i) => {
      result[start + i] = Math.min(Math.max(value, -limit), limit) / limit;
    });
  }
  return result;
}

/** Linear interpolation between closest ranks, as torch.quantile. */
function quantile(sorted: Float32Array, ratio: number): number {
  const rank = ratio * (sorted.length - 1);
  const low = sorted[Math.floor(rank)] as number;
  const high = sorted[Math.ceil(rank)] as number;
  return Math.fround(low + (rank - Math.floor(rank)) * (high - low));
}
