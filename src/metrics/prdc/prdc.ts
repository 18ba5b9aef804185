import { requireObject } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';
import type { Device } from '../../runtime/device.ts';
import type { BlockProducts } from '../linalg/products.ts';
import {
  checkPointCloud,
  type Metric,
  type PointCloud,
  requireInteger,
  requireSameDims,
  requireSamples,
} from '../metric.ts';
import { countByIndex, indexedNeighbourhoodWork, indexWork, neighbourhoodsByIndex } from './ball-index.ts';
import { blockWork, countByBlocks, neighbourhoodsByBlocks, neighbourhoodWork } from './blocks.ts';
import { fromCounts, type Neighbourhoods, Pacer, type Prdc } from './counts.ts';

/** Above this a k-d tree prunes too little to beat a matrix product. */
const MOST_INDEXED_DIMS = 8;

/** The option of the metric 'prdc'. */
export interface PrdcSettings {
  /** Neighbour that sets the radius of a ball, the point itself not counted: an integer of at least 1. Default 5. */
  readonly nearest_k: number;
}

/** 'prdc': Precision, Recall, Density and Coverage, by k-d trees or with onnxruntime's product on the cpu. */
export const prdc: Metric<PrdcSettings> = {
  kinds: ['images', 'points'],
  needs: { real: ['features'], fake: ['features'] },
  options: { nearest_k: 5 },
  better: { precision: 'higher', recall: 'higher', density: 'higher', coverage: 'higher' },
  check(counts, { nearest_k }) {
    requireInteger('nearest_k', nearest_k, 1);
    requireSamples('prdc', counts, nearest_k + 1, `the ${nearest_k} nearest neighbours`);
  },
  async compute({ real, fake, options: { nearest_k }, on_progress, signal }) {
    const options = { nearest_k, on_progress, signal };
    return { ...(await precisionRecallDensityCoverage(real.features, fake.features, options)) };
  },
};

/** Options of `precisionRecallDensityCoverage`. */
export interface PrdcOptions {
  /** Neighbour that sets the radius of a ball, the point itself not counted: an integer of at least 1. Default 5. */
  nearest_k?: number | undefined;
  /** Called with the finished fraction, 0 to 1, about 20 times a second and at the end. Default: none. */
  on_progress?: ((fraction: number) => void) | undefined;
  /** Ends the computation with the signal's reason. Default: none. */
  signal?: AbortSignal | undefined;
  /** Where the pairwise products of points of more than 8 dimensions run. Default 'cpu'. */
  device?: Device | undefined;
  /**
   * Another matrix product for points of more than 8 dimensions. Only the speed depends on it: the results are those of
   * float64 distances. Default: onnxruntime's on `device`.
   */
  block_products?: BlockProducts | undefined;
}

/**
 * Improved precision and recall (Kynkäänniemi et al. 2019) and density and coverage (Naeem et al. 2020) of generated
 * points or features, as the reference package `prdc` defines them: balls are open, and points are compared by
 * distances in float64.
 *
 * Up to 8 dimensions it uses k-d trees; above, blocks of pairwise distances, never the whole matrix. The products of
 * the blocks are onnxruntime's, in float32; pairs that their rounding leaves open are decided in float64.
 *
 * @param real the points of the data set, count x dims, count > nearest_k.
 * @param fake the generated points, with the same dims, count > nearest_k.
 * @throws {InvalidArgumentError} for values that are not finite, too few points, different dims or a wrong `nearest_k`.
 * @throws {DeviceError} when the device is not usable.
 *
 * @example
 * const real = await loadPoints('swiss-roll', { seed: 0 });
 * const fake = await loadPoints('swiss-roll', { seed: 1 });
 * const { precision, recall, density, coverage } = await precisionRecallDensityCoverage(real, fake);
 */
export async function precisionRecallDensityCoverage(
  real: PointCloud,
  fake: PointCloud,
  options: PrdcOptions = {},
): Promise<Prdc> {
  requireObject('the options of precisionRecallDensityCoverage', options);
  const { nearest_k = 5, on_progress, signal } = options;
  checkInput(real, fake, nearest_k);
  if (real.dims <= MOST_INDEXED_DIMS) {
    const pacer = new Pacer(indexWork(real, fake), on_progress, signal);
    return fromCounts(await countByIndex(real, fake, nearest_k, pacer), real, fake, nearest_k);
  }
  return withProducts(options, async (products) => {
    const pacer = new Pacer(blockWork(real, fake, products.block_size), on_progress, signal);
    return fromCounts(await countByBlocks(real, fake, nearest_k, pacer, products), real, fake, nearest_k);
  });
}

/**
 * Where every real and every fake lies, of which the metrics are the counts: found as the metrics are.
 *
 * @param nearestReals how many of the reals nearest to each fake are wanted.
 * @throws as `precisionRecallDensityCoverage`.
 */
export async function neighbourhoods(
  real: PointCloud,
  fake: PointCloud,
  nearestReals: number,
  options: PrdcOptions = {},
): Promise<Neighbourhoods> {
  const { nearest_k = 5, on_progress, signal } = options;
  checkInput(real, fake, nearest_k);
  if (real.dims <= MOST_INDEXED_DIMS) {
    const pacer = new Pacer(indexedNeighbourhoodWork(real, fake), on_progress, signal);
    return neighbourhoodsByIndex(real, fake, nearest_k, nearestReals, pacer);
  }
  return withProducts(options, (products) => {
    const pacer = new Pacer(neighbourhoodWork(real, fake, products.block_size), on_progress, signal);
    return neighbourhoodsByBlocks(real, fake, nearest_k, nearestReals, pacer, products);
  });
}

async function withProducts<Result>(
  { device, block_products }: PrdcOptions,
  use: (products: BlockProducts) => Promise<Result>,
): Promise<Result> {
  if (block_products) return use(block_products);
  // Loaded only here: points of few dimensions do without onnxruntime, whose start-up would take longer than the count.
  const { createBlockGemm } = await import('../linalg/block-gemm.ts');
  const gemm = await createBlockGemm(device);
  try {
    return await use(gemm);
  } finally {
    await gemm.dispose();
  }
}

function checkInput(real: PointCloud, fake: PointCloud, nearestK: number): void {
  requireInteger('nearest_k', nearestK, 1);
  checkPointCloud('real', real);
  checkPointCloud('fake', fake);
  requireSameDims(real, fake);
  for (const [name, { count }] of Object.entries({ real, fake })) {
    if (count > nearestK) continue;
    throw new InvalidArgumentError(
      `${name} has ${count} points; nearest_k ${nearestK} needs at least ${nearestK + 1}. ` +
        'Give more points or a smaller nearest_k.',
    );
  }
}
