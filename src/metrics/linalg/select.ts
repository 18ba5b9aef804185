/**
 * Reorders `ids[start, end)` so that the row at `middle` is where sorting by `axis` would put it, with no greater
 * value before it and no smaller one after it.
 *
 * Quickselect with a three-way partition: equal values end it at once instead of making it quadratic. The pivot is
 * drawn from a fixed pseudo-random sequence, so that no order of the points is a bad one in practice and the tree is
 * the same on every run.
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
