import type { Device } from '../../runtime/device.ts';
import { createBlockGemm } from '../linalg/block-gemm.ts';
import type { PointCloud } from './point-cloud.ts';
import { MOST_INDEXED_DIMS, type Prdc, type PrdcOptions, precisionRecallDensityCoverage } from './prdc.ts';

export interface PrdcOnDeviceOptions extends PrdcOptions {
  /** Where the pairwise products run for points of more than 8 dimensions, default `cpu`. */
  device?: Device | undefined;
}

/**
 * `precisionRecallDensityCoverage` with the matrix products of onnxruntime instead of plain TypeScript: the same
 * values, sooner in high dimension. `block_products`, when given, is used as it is.
 *
 * @throws {InvalidArgumentError} as `precisionRecallDensityCoverage` does.
 * @throws {DeviceError} when the device is not usable.
 *
 * @example
 * const { precision, recall } = await precisionRecallDensityCoverageOnDevice(real, fake, { device: 'cpu' });
 */
export async function precisionRecallDensityCoverageOnDevice(
  real: PointCloud,
  fake: PointCloud,
  options: PrdcOnDeviceOptions = {},
): Promise<Prdc> {
  const { device, ...prdcOptions } = options;
  if (real.dims <= MOST_INDEXED_DIMS || options.block_products) {
    return precisionRecallDensityCoverage(real, fake, prdcOptions);
  }
  const products = await createBlockGemm(device);
  try {
    return await precisionRecallDensityCoverage(real, fake, { ...prdcOptions, block_products: products });
  } finally {
    await products.dispose();
  }
}
