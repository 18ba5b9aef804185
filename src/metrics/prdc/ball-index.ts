import type { PointCloud } from '../metric.ts';
import { type NeighbourhoodCounts, type Neighbourhoods, NeighbourTable, others, type Pacer } from './counts.ts';
import { KdTree, NearestNeighbours, STACK_SIZE } from './kd-tree.ts';

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

/** The units of work that `neighbourhoodsByIndex` reports to its pacer. */
export function indexedNeighbourhoodWork(real: PointCloud, fake: PointCloud): number {
  return 2 * real.count + 2 * fake.count;
}

/** Where every sample lies, by k-d trees. */
export async function neighbourhoodsByIndex(
  real: PointCloud,
  fake: PointCloud,
  nearestK: number,
  nearestReals: number,
  pacer: Pacer,
): Promise<Neighbourhoods> {
  const realTree = new KdTree(real);
  const fakeTree = new KdTree(fake);
  const realsOfReals = new NeighbourTable(real.count, nearestK + 1);
  const radii = new Float64Array(real.count);
  const search = new NearestNeighbours(realTree, nearestK + 2);
  await forEachPoint(realTree, pacer, (position) => {
    const row = realTree.ids[position] as number;
    const nearest = others(row, search.nearestTo(realTree.coordinates, position * real.dims));
    radii[position] = nearest[nearestK - 1]?.value ?? Number.POSITIVE_INFINITY;
    realsOfReals.set(row, nearest);
  });
  const ballsAround = new Uint32Array(fake.count);
  const balls = new BallIndex(realTree, radii);
  await forEachPoint(fakeTree, pacer, (position) => {
    const row = fakeTree.ids[position] as number;
    ballsAround[row] = balls.countContaining(fakeTree.coordinates, position * fake.dims);
  });
  const realsOfFakes = await nearestInTree(fakeTree, realTree, nearestReals, pacer);
  const fakesOfReals = await nearestInTree(realTree, fakeTree, 1, pacer);
  return { realsOfReals, realsOfFakes, fakesOfReals, ballsAround };
}

/** Of each point of `from`, the k nearest points of `tree`. */
async function nearestInTree(from: KdTree, tree: KdTree, k: number, pacer: Pacer): Promise<NeighbourTable> {
  const table = new NeighbourTable(from.count, k);
  const search = new NearestNeighbours(tree, k);
  await forEachPoint(from, pacer, (position) => {
    table.set(from.ids[position] as number, search.nearestTo(from.coordinates, position * from.dims));
  });
  return table;
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

/**
 * A k-d tree whose points are centres of open balls, each node knowing the largest and smallest radius below it:
 * answers in how many balls a point lies without looking at most of them.
 */
export class BallIndex {
  private readonly largest: Float64Array;
  private readonly smallest: Float64Array;
  private readonly stack = new Uint32Array(STACK_SIZE);

  /** @param squaredRadii one for each position of the tree (tree order, not the cloud's). */
  constructor(
    private readonly tree: KdTree,
    private readonly squaredRadii: Float64Array,
  ) {
    this.largest = new Float64Array(tree.nodeCount);
    this.smallest = new Float64Array(tree.nodeCount);
    // Children are numbered after their parent.
    for (let node = tree.nodeCount - 1; node >= 0; node--) this.summarise(node);
  }

  /** The number of balls that the point at `offset` of `points` lies in; with `limit`, counting stops there. */
  countContaining(points: Float64Array, offset: number, limit = Number.POSITIVE_INFINITY): number {
    const { tree, largest, smallest, stack } = this;
    let count = 0;
    let depth = 1;
    stack[0] = 0;
    while (depth > 0 && count < limit) {
      const node = stack[--depth] as number;
      if (tree.squaredDistanceToBox(node, points, offset) >= (largest[node] as number)) continue;
      const left = tree.left[node] as number;
      if (tree.squaredDistanceToFarCorner(node, points, offset) < (smallest[node] as number)) {
        count += (tree.end[node] as number) - (tree.start[node] as number);
      } else if (left === 0) {
        count += this.countInLeaf(node, points, offset);
      } else {
        stack[depth++] = left;
        stack[depth++] = left + 1;
      }
    }
    return count;
  }

  private countInLeaf(node: number, points: Float64Array, offset: number): number {
    const { tree, squaredRadii } = this;
    const end = tree.end[node] as number;
    let count = 0;
    for (let position = tree.start[node] as number; position < end; position++) {
      if (tree.squaredDistanceTo(position, points, offset) < (squaredRadii[position] as number)) count++;
    }
    return count;
  }

  private summarise(node: number): void {
    const { tree, largest, smallest, squaredRadii } = this;
    const left = tree.left[node] as number;
    if (left !== 0) {
      largest[node] = Math.max(largest[left] as number, largest[left + 1] as number);
      smallest[node] = Math.min(smallest[left] as number, smallest[left + 1] as number);
      return;
    }
    const radii = squaredRadii.subarray(tree.start[node], tree.end[node]);
    largest[node] = radii.reduce((a, b) => Math.max(a, b));
    smallest[node] = radii.reduce((a, b) => Math.min(a, b));
  }
}

/** Whether any point of `tree` is nearer than the root of `squaredRadius` to the point at `offset` of `points`. */
export class BallProbe {
  private readonly stack = new Uint32Array(STACK_SIZE);

  constructor(private readonly tree: KdTree) {}

  anyWithin(points: Float64Array, offset: number, squaredRadius: number): boolean {
    const { tree, stack } = this;
    let depth = 1;
    stack[0] = 0;
    while (depth > 0) {
      const node = stack[--depth] as number;
      if (tree.squaredDistanceToBox(node, points, offset) >= squaredRadius) continue;
      const left = tree.left[node] as number;
      if (left !== 0) {
        stack[depth++] = left;
        stack[depth++] = left + 1;
        continue;
      }
      const end = tree.end[node] as number;
      for (let position = tree.start[node] as number; position < end; position++) {
        if (tree.squaredDistanceTo(position, points, offset) < squaredRadius) return true;
      }
    }
    return false;
  }
}
