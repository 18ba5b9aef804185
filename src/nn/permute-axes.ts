/**
 * What Transpose does, on the host: the tensor `data` of `shape`, row-major, with its axes in the order `axes`.
 * `inverseAxes(axes)` leads back.
 *
 * @example
 * permuteAxes(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3], [1, 0]); // 1, 4, 2, 5, 3, 6
 */
export function permuteAxes(
  data: Float32Array,
  shape: readonly number[],
  axes: readonly number[],
  result = new Float32Array(data.length),
): Float32Array<ArrayBuffer> {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, dim) => product * dim, 1));
  const dims = axes.map((axis) => shape[axis] ?? 1);
  const steps = axes.map((axis) => strides[axis] ?? 0);
  let written = 0;
  const walk = (axis: number, offset: number): void => {
    const step = steps[axis] ?? 0;
    const end = offset + (dims[axis] ?? 1) * step;
    if (axis < dims.length - 1) for (let at = offset; at < end; at += step) walk(axis + 1, at);
    else for (let at = offset; at < end; at += step) result[written++] = data[at] as number;
  };
  if (data.length > 0) walk(0, 0);
  return result;
}

export function inverseAxes(axes: readonly number[]): number[] {
  return axes.map((_, axis) => axes.indexOf(axis));
}
