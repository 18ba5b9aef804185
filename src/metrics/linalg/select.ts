/**
 * Reorders `ids[start, end)` until the row at `middle` is where sorting by `axis` would put it: values before it are not
 * greater, values after it not smaller.
 *
 * Quickselect with a three-way partition: equal values end it at once instead of making it quadratic. Pivots come from a
 * fixed pseudo-random sequence. In practice no order of the points is a bad one, and the tree is the same on every run.
 */
export function partitionByAxis(
  ids: Uint32Array,
  start: number,
  end: number,
  middle: number,
  data: Float32Array,
  dims: number,
  axis: number,
): void {
  let low = start;
  let high = end;
  let state = 0x9e3779b9;
  while (high - low > 1) {
    state = nextState(state);
    const pivotId = ids[low + ((state >>> 0) % (high - low))] as number;
    const pivot = data[pivotId * dims + axis] as number;
    let below = low;
    let above = high;
    for (let i = low; i < above; ) {
      const id = ids[i] as number;
      const value = data[id * dims + axis] as number;
      if (value < pivot) {
        ids[i++] = ids[below] as number;
        ids[below++] = id;
      } else if (value > pivot) {
        above--;
        ids[i] = ids[above] as number;
        ids[above] = id;
      } else {
        i++;
      }
    }
    if (middle < below) high = below;
    else if (middle >= above) low = above;
    else return;
  }
}

/** Marsaglia's xorshift32. */
function nextState(state: number): number {
  let x = state ^ (state << 13);
  x ^= x >>> 17;
  return x ^ (x << 5);
}

/** One number of `SmallestValues`, and whose it is. */
export interface Ranked {
  readonly id: number;
  readonly value: number;
}

/**
 * The k smallest numbers seen so far in each of `rows` rows, and whose they are: one bounded max-heap a row, all in two
 * typed arrays. A row that has seen fewer than k numbers has the bound Infinity. Which of several numbers equal to the bound stay is not defined.
 */
export class SmallestValues {
  private readonly heaps: Float64Array;
  private readonly ids: Uint32Array;

  constructor(
    rows: number,
    private readonly k: number,
  ) {
    this.heaps = new Float64Array(rows * k).fill(Number.POSITIVE_INFINITY);
    this.ids = new Uint32Array(rows * k);
  }

  /** The k-th smallest number of the row: a number that is not below it changes nothing. */
  bound(row: number): number {
    return this.heaps[row * this.k] as number;
  }

  /** Takes the `value` of `id` in; it must be below `bound(row)`. */
  replaceLargest(row: number, value: number, id: number): void {
    const { heaps, ids, k } = this;
    const start = row * k;
    let hole = 0;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= k) break;
      if (child + 1 < k && (heaps[start + child + 1] as number) > (heaps[start + child] as number)) child++;
      const childValue = heaps[start + child] as number;
      if (childValue <= value) break;
      heaps[start + hole] = childValue;
      ids[start + hole] = ids[start + child] as number;
      hole = child;
    }
    heaps[start + hole] = value;
    ids[start + hole] = id;
  }

  /** What the row holds, the smallest number first, of equal ones the smallest id. */
  ranked(row: number): Ranked[] {
    const start = row * this.k;
    return Array.from(this.heaps.subarray(start, start + this.k), (value, at) => ({
      id: this.ids[start + at] as number,
      value,
    }))
      .filter(({ value }) => value < Number.POSITIVE_INFINITY)
      .sort((a, b) => a.value - b.value || a.id - b.id);
  }

  /** Forgets what the row has seen. */
  clear(row: number): void {
    this.heaps.fill(Number.POSITIVE_INFINITY, row * this.k, (row + 1) * this.k);
  }
}
