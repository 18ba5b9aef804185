import type { BlockProducts } from '../linalg/products.ts';
import type { PointCloud } from '../metric.ts';
import {
  type DistanceError,
  distanceError,
  exactSquaredDistance,
  type NormalisedCloud,
  normalisedRows,
  normaliseTogether,
} from './bounds.ts';
import { NearestCandidates } from './candidates.ts';
import { type NeighbourhoodCounts, type Neighbourhoods, NeighbourTable, others, type Pacer } from './counts.ts';

/** Inner products of rows from `aStart` of one cloud with rows from `bStart` of another, row-major. */
interface ProductBlock {
  readonly products: Float32Array | Float64Array;
  readonly aStart: number;
  readonly aEnd: number;
  readonly bStart: number;
  readonly bEnd: number;
}

/** The units of work that `countByBlocks` reports to its pacer: pairs of points. */
export function blockWork(real: PointCloud, fake: PointCloud, blockSize: number): number {
  return triangle(real.count, blockSize) + triangle(fake.count, blockSize) + real.count * fake.count;
}

/**
 * The counts of PRDC by blocks of pairwise distances |y|² + |z|² - 2 yᵀz, the products being `products`. Memory beside
 * the points: ten blocks at most and a few numbers a point.
 *
 * A float32 product loses small differences of distances, so no decision rests on it alone. It gives bounds
 * that hold in the worst case (`distanceError`): a pair is counted when the upper bound of its distance is inside the
 * ball, dropped when the lower bound is outside, and decided by the distance in float64 in between. Likewise only those
 * that can be among the k + 1 nearest are evaluated in float64, and the radii are taken from these values. So the counts are
 * those of the float64 distances. The cost is small unless clusters are so tight, and so far from each other, that
 * their inner distances vanish in the rounding error.
 */
export async function countByBlocks(
  real: PointCloud,
  fake: PointCloud,
  nearestK: number,
  pacer: Pacer,
  products: BlockProducts,
): Promise<NeighbourhoodCounts> {
  const [normalReal, normalFake] = normaliseTogether(real, fake);
  const realRadii = await squaredRadii(normalReal, nearestK, pacer, products);
  const fakeRadii = await squaredRadii(normalFake, nearestK, pacer, products);

  const error = distanceError(products, real.dims);
  const fakeInReal = new Uint8Array(fake.count);
  const realInFake = new Uint8Array(real.count);
  const covered = new Uint8Array(real.count);
  let pairsInReal = 0;
  for await (const block of productBlocks(normalReal, normalFake, products)) {
    forEachNear(normalReal, normalFake, block, error, realRadii, fakeRadii, (i, j, lower, upper) => {
      const distance = () => exactSquaredDistance(normalReal, i, normalFake, j);
      if (isBelow(realRadii[i] as number, lower, upper, distance)) {
        pairsInReal++;
        fakeInReal[j] = 1;
        covered[i] = 1;
      }
      if (realInFake[i] === 0 && isBelow(fakeRadii[j] as number, lower, upper, distance)) realInFake[i] = 1;
    });
    await pacer.advance((block.aEnd - block.aStart) * (block.bEnd - block.bStart));
  }
  return {
    fakesInReal: total(fakeInReal),
    pairsInReal,
    realsInFake: total(realInFake),
    realsCovered: total(covered),
  };
}

/** The units of work that `neighbourhoodsByBlocks` reports to its pacer: pairs of points. */
export function neighbourhoodWork(real: PointCloud, fake: PointCloud, blockSize: number): number {
  return triangle(real.count, blockSize) + real.count * fake.count;
}

/** Where every sample lies, by the same bounds and float64 distances as `countByBlocks`. */
export async function neighbourhoodsByBlocks(
  real: PointCloud,
  fake: PointCloud,
  nearestK: number,
  nearestReals: number,
  pacer: Pacer,
  products: BlockProducts,
): Promise<Neighbourhoods> {
  const [normalReal, normalFake] = normaliseTogether(real, fake);
  const area = normalReal.scale * normalReal.scale;
  const ownNeighbours = await nearestWithin(normalReal, nearestK + 2, pacer, products);
  const realsOfReals = new NeighbourTable(real.count, nearestK + 1);
  const radii = new Float64Array(real.count);
  for (let i = 0; i < real.count; i++) {
    const nearest = others(i, ownNeighbours.nearest(i));
    radii[i] = nearest[nearestK - 1]?.value ?? Number.POSITIVE_INFINITY;
    realsOfReals.set(i, nearest, area);
  }
  const error = distanceError(products, real.dims);
  const ballsAround = new Uint32Array(fake.count);
  const toReals = new NearestCandidates(fake.count, nearestReals, (j, i) =>
    exactSquaredDistance(normalReal, i, normalFake, j),
  );
  const toFakes = new NearestCandidates(real.count, 1, (i, j) => exactSquaredDistance(normalReal, i, normalFake, j));
  for await (const block of productBlocks(normalReal, normalFake, products)) {
    forEachNear(normalReal, normalFake, block, error, radii, nowhere(fake.count), (i, j, lower, upper) => {
      const distance = () => exactSquaredDistance(normalReal, i, normalFake, j);
      if (isBelow(radii[i] as number, lower, upper, distance)) ballsAround[j] = (ballsAround[j] as number) + 1;
    });
    keepNearest(normalReal, normalFake, block, error, toFakes, toReals);
    await pacer.advance((block.aEnd - block.aStart) * (block.bEnd - block.bStart));
  }
  const realsOfFakes = new NeighbourTable(fake.count, nearestReals);
  for (let j = 0; j < fake.count; j++) realsOfFakes.set(j, toReals.nearest(j), area);
  const fakesOfReals = new NeighbourTable(real.count, 1);
  for (let i = 0; i < real.count; i++) fakesOfReals.set(i, toFakes.nearest(i), area);
  return { realsOfReals, realsOfFakes, fakesOfReals, ballsAround };
}

/** The squared distance of each point to its k-th nearest neighbour, in normalised units; the point itself not counted. */
async function squaredRadii(
  points: NormalisedCloud,
  nearestK: number,
  pacer: Pacer,
  products: BlockProducts,
): Promise<Float64Array> {
  const nearest = await nearestWithin(points, nearestK + 1, pacer, products);
  return Float64Array.from({ length: points.cloud.count }, (_, i) => nearest.kthDistance(i));
}

/** The k nearest of the points to each of them, itself included, by squared distances in normalised units. */
async function nearestWithin(
  points: NormalisedCloud,
  k: number,
  pacer: Pacer,
  products: BlockProducts,
): Promise<NearestCandidates> {
  const { count, dims } = points.cloud;
  const error = distanceError(products, dims);
  const nearest = new NearestCandidates(count, k, (i, j) => exactSquaredDistance(points, i, points, j));
  // The product is symmetric: each block off the diagonal serves its rows and its columns.
  for await (const block of productBlocks(points, points, products, true)) {
    const offDiagonal = block.aStart !== block.bStart;
    keepNearest(points, points, block, error, nearest, offDiagonal ? nearest : undefined);
    await pacer.advance((block.aEnd - block.aStart) * (block.bEnd - block.bStart));
  }
  return nearest;
}

/** Tells `ofA` of the block's b-rows that can be among the nearest of its a-rows, and `ofB` of its a-rows. */
function keepNearest(
  a: NormalisedCloud,
  b: NormalisedCloud,
  block: ProductBlock,
  error: DistanceError,
  ofA: NearestCandidates,
  ofB: NearestCandidates | undefined,
): void {
  const bLimits = ofB?.limits ?? nowhere(b.cloud.count);
  // First all upper bounds: their k-th smallest drops most pairs at once.
  const near: number[] = [];
  forEachNear(a, b, block, error, ofA.limits, bLimits, (i, j, lower, upper) => {
    ofA.tellUpperBound(i, j, upper);
    ofB?.tellUpperBound(j, i, upper);
    near.push(i, j, lower);
  });
  for (let at = 0; at < near.length; at += 3) {
    const [i, j, lower] = [near[at] as number, near[at + 1] as number, near[at + 2] as number];
    ofA.keep(i, j, lower);
    ofB?.keep(j, i, lower);
  }
}

/** More than the rounding of the few float64 operations on numbers of at most 4 that drop a pair. */
const FILTER_ROUNDOFF = 2 ** -44;

/**
 * Calls `visit` for each pair of the block but those whose squared distance is known to be above the limit of a's point and
 * above the limit of b's point. `visit` may lower the limits. The pairs come in the order in which the block lies in memory.
 *
 * The lower bound |y|² + |z|² - 2 p - slack is above a limit where p < (|y|² + |z|² - slack - limit) / 2. With the largest
 * |z| of the block in the slack, the right side is a number of the row plus a number of the column. Two comparisons
 * with these drop most pairs; the others get their own bounds.
 */
function forEachNear(
  a: NormalisedCloud,
  b: NormalisedCloud,
  { products, aStart, aEnd, bStart, bEnd }: ProductBlock,
  error: DistanceError,
  aLimits: Float64Array,
  bLimits: Float64Array,
  visit: (i: number, j: number, lower: number, upper: number) => void,
): void {
  const columns = bEnd - bStart;
  const norms = b.norms.subarray(bStart, bEnd);
  const largestNorm = norms.reduce((largest, norm) => Math.max(largest, norm));
  const halves = norms.map((norm) => (norm * norm * (1 - error.norms)) / 2);
  const withLimits = halves.map((half, j) => half - (bLimits[bStart + j] as number) / 2);
  let start = 0;
  for (let i = aStart; i < aEnd; i++, start += columns) {
    const iNorm = a.norms[i] as number;
    const row =
      (iNorm * iNorm * (1 - error.norms) - error.product * iNorm * largestNorm - error.underflow) / 2 - FILTER_ROUNDOFF;
    let rowWithLimit = row - (aLimits[i] as number) / 2;
    for (let column = 0; column < columns; column++) {
      const product = products[start + column] as number;
      if (product - (halves[column] as number) < rowWithLimit && product - (withLimits[column] as number) < row)
        continue;
      const j = bStart + column;
      const jNorm = norms[column] as number;
      const squares = iNorm * iNorm + jNorm * jNorm;
      const slack = error.product * iNorm * jNorm + error.norms * squares + error.underflow;
      const approximate = squares - 2 * product;
      const lower = approximate - slack;
      if (lower > (aLimits[i] as number) && lower > (bLimits[j] as number)) continue;
      visit(i, j, lower, approximate + slack);
      rowWithLimit = row - (aLimits[i] as number) / 2;
      withLimits[column] = (halves[column] as number) - (bLimits[j] as number) / 2;
    }
  }
}

/** Whether a squared distance is below `limit`, by its bounds where they tell, else by its value. */
function isBelow(limit: number, lower: number, upper: number, distance: () => number): boolean {
  return upper < limit || (lower < limit && distance() < limit);
}

/** Limits that no distance is below. */
function nowhere(count: number): Float64Array {
  return new Float64Array(count).fill(Number.NEGATIVE_INFINITY);
}

/** Blocks of rows that stay normalised while the blocks of the other cloud pass by: 128 MB of 2,048 x 2,048. */
const PANEL_BLOCKS = 8;

/** The products of all blocks; `symmetric`, of a cloud with itself, leaves out those below the diagonal. */
async function* productBlocks(
  a: NormalisedCloud,
  b: NormalisedCloud,
  products: BlockProducts,
  symmetric = false,
): AsyncGenerator<ProductBlock> {
  const { block_size: size } = products;
  const { dims } = a.cloud;
  const panelRows = PANEL_BLOCKS * size;
  const panelBuffer = new Float32Array(Math.min(panelRows, a.cloud.count) * dims);
  const bBuffer = new Float32Array(Math.min(size, b.cloud.count) * dims);
  for (let panelStart = 0; panelStart < a.cloud.count; panelStart += panelRows) {
    const panelEnd = Math.min(panelStart + panelRows, a.cloud.count);
    const panel = normalisedRows(a, panelStart, panelEnd, panelBuffer);
    const inPanel = (start: number, end: number) =>
      panel.subarray((start - panelStart) * dims, (end - panelStart) * dims);
    for (let bStart = symmetric ? panelStart : 0; bStart < b.cloud.count; bStart += size) {
      const bEnd = Math.min(bStart + size, b.cloud.count);
      const bRows = symmetric && bEnd <= panelEnd ? inPanel(bStart, bEnd) : normalisedRows(b, bStart, bEnd, bBuffer);
      const aLimit = symmetric ? Math.min(panelEnd, bEnd) : panelEnd;
      for (let aStart = panelStart; aStart < aLimit; aStart += size) {
        const aEnd = Math.min(aStart + size, panelEnd);
        const block = await products.multiply(inPanel(aStart, aEnd), aEnd - aStart, bRows, bEnd - bStart, dims);
        yield { products: block, aStart, aEnd, bStart, bEnd };
      }
    }
  }
}

function triangle(count: number, blockSize: number): number {
  let pairs = 0;
  for (let start = 0; start < count; start += blockSize) {
    pairs += (Math.min(start + blockSize, count) - start) * (count - start);
  }
  return pairs;
}

function total(flags: Uint8Array): number {
  return flags.reduce((sum, flag) => sum + flag, 0);
}
