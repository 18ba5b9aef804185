/**
 * The k smallest numbers seen so far in each of `rows` rows: one bounded max-heap a row, all in one typed array.
 * A row that has seen fewer than k numbers has the bound Infinity.
 */
export class SmallestValues {
  private readonly heaps: Float64Array;

  constructor(
    rows: number,
    private readonly k: number,
  ) {
    this.heaps = new Float64Array(rows * k).fill(Number.POSITIVE_INFINITY);
  }

  /** The k-th smallest number of the row: a number that is not below it changes nothing. */
  bound(row: number): number {
    return this.heaps[row * this.k] as number;
  }

  /** Takes `value` in; it must be below `bound(row)`. */
  replaceLargest(row: number, value: number): void {
    const { heaps, k } = this;
    const start = row * k;
    let hole = 0;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= k) break;
      if (child + 1 < k && (heaps[start + child + 1] as number) > (heaps[start + child] as number)) child++;
      const childValue = heaps[start + child] as number;
      if (childValue <= value) break;
      heaps[start + hole] = childValue;
      hole = child;
    }
    heaps[start + hole] = value;
  }

  /** Forgets what the row has seen. */
  clear(row: number): void {
    this.heaps.fill(Number.POSITIVE_INFINITY, row * this.k, (row + 1) * this.k);
  }
}
