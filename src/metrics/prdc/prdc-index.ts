import type { Pacer } from '../pacer.ts';
import { BallIndex, BallProbe } from './ball-index.ts';
import type { NeighbourhoodCounts } from './counts.ts';
import { KdTree, NearestNeighbours } from './kd-tree.ts';
import type { PointCloud } from './point-cloud.ts';

const QUERIES_A_TURN = 512;

/** The units of work that `countByIndex` reports to its pacer. */
export function indexWork(real: PointCloud, fake: PointCloud): number {
  return 3 * real.count + 2 * fake.count;
}

/**
 * The counts of PRDC by k-d trees: about n log n for points of few dimensions. Memory is a copy of the points in
 * float64 and their boxes.
 */
export async function countByIndex(
  real: PointCloud,
  fake: PointCloud,
  nearestK: number,
  pacer: Pacer,
): Promise<NeighbourhoodCounts> {
  const realTree = new KdTree(real);
  const fakeTree = new KdTree(fake);
  const realRadii = await squaredRadii(realTree, nearestK, pacer);
  const fakeRadii = await squaredRadii(fakeTree, nearestK, pacer);

  const counts = { fakesInReal: 0, pairsInReal: 0, realsInFake: 0, realsCovered: 0 };
  const realBalls = new BallIndex(realTree, realRadii);
  await forEachPoint(fakeTree, pacer, (position) => {
    const balls = realBalls.countContaining(fakeTree.coordinates, position * fake.dims);
    counts.pairsInReal += balls;
    if (balls > 0) counts.fakesInReal++;
  });
  const fakeBalls = new BallIndex(fakeTree, fakeRadii);
  await forEachPoint(realTree, pacer, (position) => {
    if (fakeBalls.countContaining(realTree.coordinates, position * real.dims, 1) > 0) counts.realsInFake++;
  });
  const fakes = new BallProbe(fakeTree);
  await forEachPoint(realTree, pacer, (position) => {
    const radius = realRadii[position] as number;
    if (fakes.anyWithin(realTree.coordinates, position * real.dims, radius)) counts.realsCovered++;
  });
  return counts;
}

/** The squared distance of each point to its k-th nearest neighbour, in tree order. The point itself is not counted. */
async function squaredRadii(tree: KdTree, nearestK: number, pacer: Pacer): Promise<Float64Array> {
  const neighbours = new NearestNeighbours(tree, nearestK + 1);
  const radii = new Float64Array(tree.count);
  await forEachPoint(tree, pacer, (position) => {
    radii[position] = neighbours.kthSquaredDistance(tree.coordinates, position * tree.dims);
  });
  return radii;
}

/** Visits in tree order: consecutive queries walk the same nodes, which are then in the cache. */
async function forEachPoint(tree: KdTree, pacer: Pacer, visit: (position: number) => void): Promise<void> {
  for (let start = 0; start < tree.count; start += QUERIES_A_TURN) {
    const end = Math.min(start + QUERIES_A_TURN, tree.count);
    for (let position = start; position < end; position++) visit(position);
    await pacer.advance(end - start);
  }
}
