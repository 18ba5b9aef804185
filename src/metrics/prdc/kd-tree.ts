import { partitionByAxis, type Ranked, SmallestValues } from '../linalg/select.ts';
import type { PointCloud } from '../metric.ts';

const LEAF_SIZE = 12;

/** More than the depth of any tree of 2^32 points, plus the pending sibling at every level. */
export const STACK_SIZE = 80;

/**
 * A k-d tree in typed arrays. Every split halves the index range, so the depth is log2(count) whatever the points
 * are, duplicates included. Points are copied in tree order: node n holds positions `start[n]` to `end[n]`,
 * `coordinates` their values, `ids` their row in the cloud. Children of n are `left[n]` and `left[n] + 1`; a leaf has
 * `left[n]` = 0.
 *
 * Bounds by bounding boxes are exact: subtraction, squaring and addition round monotonically, so the computed
 * distance to a box is never above the computed distance to a point in it.
 */
export class KdTree {
  readonly count: number;
  readonly dims: number;
  readonly ids: Uint32Array;
  readonly coordinates: Float64Array;
  readonly start: Uint32Array;
  readonly end: Uint32Array;
  readonly left: Uint32Array;
  readonly boxMin: Float64Array;
  readonly boxMax: Float64Array;
  nodeCount = 1;

  constructor(cloud: PointCloud) {
    const { count, dims } = cloud;
    this.count = count;
    this.dims = dims;
    this.ids = Uint32Array.from({ length: count }, (_, i) => i);
    // A node is split only above LEAF_SIZE points, so every leaf but a lone root holds more than LEAF_SIZE / 2 - 1.
    const nodes = 2 * Math.ceil(count / Math.floor(LEAF_SIZE / 2)) + 1;
    this.start = new Uint32Array(nodes);
    this.end = new Uint32Array(nodes);
    this.left = new Uint32Array(nodes);
    this.boxMin = new Float64Array(nodes * dims);
    this.boxMax = new Float64Array(nodes * dims);
    this.end[0] = count;
    this.build(0, cloud.data);
    this.coordinates = new Float64Array(count * dims);
    for (let position = 0; position < count; position++) {
      const row = (this.ids[position] as number) * dims;
      for (let d = 0; d < dims; d++) this.coordinates[position * dims + d] = cloud.data[row + d] as number;
    }
  }

  /** A lower bound of the squared distance of every point of `node` to the point at `offset` of `points`. */
  squaredDistanceToBox(node: number, points: Float64Array, offset: number): number {
    const { dims, boxMin, boxMax } = this;
    let sum = 0;
    for (let d = 0; d < dims; d++) {
      const value = points[offset + d] as number;
      const below = (boxMin[node * dims + d] as number) - value;
      const above = value - (boxMax[node * dims + d] as number);
      const gap = Math.max(below, above, 0);
      sum += gap * gap;
    }
    return sum;
  }

  /** An upper bound of the squared distance of every point of `node` to the point at `offset` of `points`. */
  squaredDistanceToFarCorner(node: number, points: Float64Array, offset: number): number {
    const { dims, boxMin, boxMax } = this;
    let sum = 0;
    for (let d = 0; d < dims; d++) {
      const value = points[offset + d] as number;
      const reach = Math.max(value - (boxMin[node * dims + d] as number), (boxMax[node * dims + d] as number) - value);
      sum += reach * reach;
    }
    return sum;
  }

  /** The squared distance of the point at `position` to the point at `offset` of `points`. */
  squaredDistanceTo(position: number, points: Float64Array, offset: number): number {
    const { dims, coordinates } = this;
    let sum = 0;
    for (let d = 0; d < dims; d++) {
      const difference = (coordinates[position * dims + d] as number) - (points[offset + d] as number);
      sum += difference * difference;
    }
    return sum;
  }

  private build(node: number, data: Float32Array): void {
    const start = this.start[node] as number;
    const end = this.end[node] as number;
    const axis = this.fitBox(node, data);
    if (end - start <= LEAF_SIZE) return;
    const middle = (start + end) >>> 1;
    partitionByAxis(this.ids, start, end, middle, data, this.dims, axis);
    const left = this.nodeCount;
    this.nodeCount += 2;
    this.left[node] = left;
    this.start[left] = start;
    this.end[left] = middle;
    this.start[left + 1] = middle;
    this.end[left + 1] = end;
    this.build(left, data);
    this.build(left + 1, data);
  }

  /** Sets the bounding box of `node` and returns its longest axis. */
  private fitBox(node: number, data: Float32Array): number {
    const { dims, ids } = this;
    const start = this.start[node] as number;
    const end = this.end[node] as number;
    let longest = 0;
    let longestExtent = -1;
    for (let d = 0; d < dims; d++) {
      let min = Number.POSITIVE_INFINITY;
      let max = Number.NEGATIVE_INFINITY;
      for (let position = start; position < end; position++) {
        const value = data[(ids[position] as number) * dims + d] as number;
        if (value < min) min = value;
        if (value > max) max = value;
      }
      this.boxMin[node * dims + d] = min;
      this.boxMax[node * dims + d] = max;
      if (max - min > longestExtent) {
        longest = d;
        longestExtent = max - min;
      }
    }
    return longest;
  }
}

/** Finds k-th nearest neighbours in a tree; it holds the scratch space, and a query allocates nothing. */
export class NearestNeighbours {
  private readonly nearest: SmallestValues;
  private readonly stack = new Uint32Array(STACK_SIZE);
  private readonly stackDistance = new Float64Array(STACK_SIZE);

  constructor(
    private readonly tree: KdTree,
    k: number,
  ) {
    this.nearest = new SmallestValues(1, k);
  }

  /** The k-th smallest squared distance from the point at `offset` of `points` to the points of the tree. */
  kthSquaredDistance(points: Float64Array, offset: number): number {
    const { tree, nearest, stack, stackDistance } = this;
    nearest.clear(0);
    let depth = 1;
    stack[0] = 0;
    stackDistance[0] = 0;
    while (depth > 0) {
      depth--;
      if ((stackDistance[depth] as number) >= nearest.bound(0)) continue;
      const node = stack[depth] as number;
      const left = tree.left[node] as number;
      if (left === 0) {
        this.visitLeaf(node, points, offset);
        continue;
      }
      const toLeft = tree.squaredDistanceToBox(left, points, offset);
      const toRight = tree.squaredDistanceToBox(left + 1, points, offset);
      const leftIsNearer = toLeft <= toRight;
      // The nearer child goes on top: what it finds prunes the other one.
      stack[depth] = leftIsNearer ? left + 1 : left;
      stackDistance[depth++] = leftIsNearer ? toRight : toLeft;
      stack[depth] = leftIsNearer ? left : left + 1;
      stackDistance[depth++] = leftIsNearer ? toLeft : toRight;
    }
    return nearest.bound(0);
  }

  /** The k points of the tree that are nearest to the point at `offset` of `points`: their rows and squared distances. */
  nearestTo(points: Float64Array, offset: number): Ranked[] {
    this.kthSquaredDistance(points, offset);
    return this.nearest.ranked(0);
  }

  private visitLeaf(node: number, points: Float64Array, offset: number): void {
    const { tree, nearest } = this;
    const end = tree.end[node] as number;
    for (let position = tree.start[node] as number; position < end; position++) {
      const distance = tree.squaredDistanceTo(position, points, offset);
      if (distance < nearest.bound(0)) nearest.replaceLargest(0, distance, tree.ids[position] as number);
    }
  }
}
