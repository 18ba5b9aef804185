import { type KdTree, STACK_SIZE } from './kd-tree.ts';

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
