import { InvalidArgumentError } from '../../errors.ts';
import { type BlockProducts, plainBlockProducts } from '../linalg/block-products.ts';
import { Pacer } from '../pacer.ts';
import { blockWork, countByBlocks } from './blocks.ts';
import type { NeighbourhoodCounts } from './counts.ts';
import { checkPointCloud, type PointCloud } from './point-cloud.ts';
import { countByIndex, indexWork } from './prdc-index.ts';

/** Above this a k-d tree prunes too little to beat a matrix product. */
export const MOST_INDEXED_DIMS = 8;

export interface PrdcOptions {
  /** The neighbour that sets the radius of a ball, not counting the point itself. An integer >= 1, default 5. */
  nearest_k?: number | undefined;
  /** Called with the finished fraction, from 0 to 1, about 20 times a second and at the end. */
  on_progress?: ((fraction: number) => void) | undefined;
  /** Ends the computation with the signal's reason. */
  signal?: AbortSignal | undefined;
  /**
   * The matrix product for points of more than 8 dimensions, default plain TypeScript. It decides the speed only:
   * results are those of float64 distances with any.
   */
  block_products?: BlockProducts | undefined;
}

/** All but density are fractions of points, from 0 to 1; density is at least 0 and can exceed 1. */
export interface Prdc {
  /** Fakes that are nearer to some real than that real's k-th nearest real. */
  precision: number;
  /** Reals that are nearer to some fake than that fake's k-th nearest fake. */
  recall: number;
  /** The mean over fakes of the number of reals as in `precision`, divided by k. */
  density: number;
  /** Reals whose nearest fake is nearer than their k-th nearest real. */
  coverage: number;
}

/**
 * Improved precision and recall (Kynkäänniemi et al. 2019) and density and coverage (Naeem et al. 2020) of generated
 * points or features, as the reference package `prdc` defines them: balls are open, and points are compared by
 * distances in float64.
 *
 * Up to 8 dimensions it uses k-d trees; above, blocks of pairwise distances, never the whole matrix.
 *
 * @param real the points of the data set, count x dims, count > nearest_k.
 * @param fake the generated points, with the same dims, count > nearest_k.
 * @throws InvalidArgumentError for values that are not finite, too few points, different dims or a wrong `nearest_k`.
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
  const { nearest_k = 5, on_progress, signal, block_products = plainBlockProducts } = options;
  checkInput(real, fake, nearest_k);
  if (real.dims <= MOST_INDEXED_DIMS) {
    const pacer = new Pacer(indexWork(real, fake), on_progress, signal);
    return fromCounts(await countByIndex(real, fake, nearest_k, pacer), real, fake, nearest_k);
  }
  const pacer = new Pacer(blockWork(real, fake, block_products.block_size), on_progress, signal);
  return fromCounts(await countByBlocks(real, fake, nearest_k, pacer, block_products), real, fake, nearest_k);
}

/** The metrics from the counts; separate, so that each path can be tested on the same points. */
export function fromCounts(
  counts: NeighbourhoodCounts,
  real: PointCloud,
  fake: PointCloud,
  nearestK: number,
): Prdc {
  return {
    precision: counts.fakesInReal / fake.count,
    recall: counts.realsInFake / real.count,
    density: (1 / nearestK) * (counts.pairsInReal / fake.count),
    coverage: counts.realsCovered / real.count,
  };
}

function checkInput(real: PointCloud, fake: PointCloud, nearestK: number): void {
  if (!Number.isInteger(nearestK) || nearestK < 1) {
    throw new InvalidArgumentError(`nearest_k is ${nearestK}; it must be an integer of at least 1.`);
  }
  checkPointCloud('real', real);
  checkPointCloud('fake', fake);
  if (real.dims !== fake.dims) {
    throw new InvalidArgumentError(
      `real has ${real.dims} dimensions and fake has ${fake.dims}; they must be the same.`,
    );
  }
  for (const [name, { count }] of Object.entries({ real, fake })) {
    if (count > nearestK) continue;
    throw new InvalidArgumentError(
      `${name} has ${count} points; nearest_k ${nearestK} needs at least ${nearestK + 1}. ` +
        'Give more points or a smaller nearest_k.',
    );
  }
}
