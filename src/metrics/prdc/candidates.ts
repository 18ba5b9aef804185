import { type Ranked, SmallestValues } from '../linalg/select.ts';

/** Candidates a row keeps before it drops or settles them: 64 cost 768 bytes a row. */
const CAPACITY = 64;

/**
 * The k smallest distances of each of `rows` rows, found from bounds: a pair is evaluated only while its lower bound
 * does not exceed the k-th smallest upper bound of its row, and as late as possible, when most bounds are known.
 */
export class NearestCandidates {
  /** A candidate whose lower bound is above this, the k-th smallest upper bound of its row, is not among the k nearest. */
  readonly limits: Float64Array;
  /** The k smallest upper bounds of each row. */
  private readonly upperBounds: SmallestValues;
  private readonly distances: SmallestValues;
  private readonly ids: Uint32Array;
  private readonly lowerBounds: Float64Array;
  private readonly counts: Uint8Array;

  /** @param distance the exact distance of row `i` and candidate `j`. */
  constructor(
    rows: number,
    k: number,
    private readonly distance: (i: number, j: number) => number,
  ) {
    this.limits = new Float64Array(rows).fill(Number.POSITIVE_INFINITY);
    this.upperBounds = new SmallestValues(rows, k);
    this.distances = new SmallestValues(rows, k);
    this.ids = new Uint32Array(rows * CAPACITY);
    this.lowerBounds = new Float64Array(rows * CAPACITY);
    this.counts = new Uint8Array(rows);
  }

  /** Tells an upper bound of the distance of candidate `j` of row `i`. */
  tellUpperBound(i: number, j: number, upper: number): void {
    if (upper >= (this.limits[i] as number)) return;
    this.upperBounds.replaceLargest(i, upper, j);
    this.limits[i] = this.upperBounds.bound(i);
  }

  /** Keeps candidate `j` of row `i`, unless its lower bound is above the limit. */
  keep(i: number, j: number, lower: number): void {
    if (lower > (this.limits[i] as number)) return;
    if (this.counts[i] === CAPACITY) this.dropBeyondLimit(i);
    if (this.counts[i] === CAPACITY) this.settle(i);
    const at = i * CAPACITY + (this.counts[i] as number);
    this.ids[at] = j;
    this.lowerBounds[at] = lower;
    this.counts[i] = (this.counts[i] as number) + 1;
  }

  /** The k-th smallest distance of row `i` among all candidates; Infinity when there are fewer than k. */
  kthDistance(i: number): number {
    this.settle(i);
    return this.distances.bound(i);
  }

  /** The k nearest candidates of row `i`, all of them where there are fewer, and their distances. */
  nearest(i: number): Ranked[] {
    this.settle(i);
    return this.distances.ranked(i);
  }

  private dropBeyondLimit(i: number): void {
    const { ids, lowerBounds } = this;
    const start = i * CAPACITY;
    const limit = this.limits[i] as number;
    let kept = start;
    for (let at = start; at < start + CAPACITY; at++) {
      if ((lowerBounds[at] as number) > limit) continue;
      ids[kept] = ids[at] as number;
      lowerBounds[kept++] = lowerBounds[at] as number;
    }
    this.counts[i] = kept - start;
  }

  /** Evaluates the candidates that can still be among the k nearest. */
  private settle(i: number): void {
    const { distances } = this;
    const start = i * CAPACITY;
    const limit = this.limits[i] as number;
    for (let at = start; at < start + (this.counts[i] as number); at++) {
      const lower = this.lowerBounds[at] as number;
      if (lower > limit || lower >= distances.bound(i)) continue;
      const j = this.ids[at] as number;
      const distance = this.distance(i, j);
      if (distance < distances.bound(i)) distances.replaceLargest(i, distance, j);
    }
    this.counts[i] = 0;
  }
}
