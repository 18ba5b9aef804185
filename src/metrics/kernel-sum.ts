import type { BlockProducts } from './linalg/products.ts';
import type { PointCloud } from './metric.ts';

/**
 * The sum of a kernel over all pairs of a vector of `a` and one of `b`, from blocks of inner products.
 *
 * @param kernel gives the value for the inner product of vector i of `a` and vector j of `b`; 0 leaves a pair out.
 * @param onBlock called with the finished fraction after each row of blocks.
 */
export async function kernelSum(
  a: PointCloud,
  b: PointCloud,
  products: BlockProducts,
  kernel: (product: number, i: number, j: number) => number,
  onBlock: (fraction: number) => void = () => {},
): Promise<number> {
  const { block_size: size } = products;
  let sum = 0;
  for (let aStart = 0; aStart < a.count; aStart += size) {
    const aRows = rows(a, aStart, size);
    for (let bStart = 0; bStart < b.count; bStart += size) {
      const bRows = rows(b, bStart, size);
      const block = await products.multiply(aRows.data, aRows.count, bRows.data, bRows.count, a.dims);
      for (let at = 0; at < block.length; at++) {
        const i = aStart + Math.floor(at / bRows.count);
        sum += kernel(block[at] as number, i, bStart + (at % bRows.count));
      }
    }
    onBlock((aStart + aRows.count) / a.count);
  }
  return sum;
}

function rows({ data, count, dims }: PointCloud, start: number, size: number): PointCloud {
  const end = Math.min(start + size, count);
  return { data: data.subarray(start * dims, end * dims), count: end - start, dims };
}
