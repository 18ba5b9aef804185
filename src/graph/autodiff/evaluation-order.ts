import type { Value } from '../graph.ts';
import { add, mul, square, sub } from '../ops/elementwise.ts';
import { reshape } from '../ops/reshape.ts';
import { apply, int64Vector, scalarLike } from '../registry.ts';

/**
 * `value` with the same bits, but computed after the others: less a zero that is made of them. (-0 - 0 is -0, where -0 + 0
 * would be 0.) onnxruntime can neither leave it out nor merge what follows with what follows `value`.
 */
export function after(value: Value, others: readonly Value[]): Value {
  const zeros = others.map(zeroFrom);
  return zeros.length === 0 ? value : sub(value, zeros.reduce(add));
}

/** +0, as a scalar: the square makes a +0 of -0. */
function zeroFrom(value: Value): Value {
  const axes = value.shape.map((_, axis) => axis);
  const ends = (end: number) =>
    int64Vector(
      value,
      axes.map(() => end),
    );
  const first =
    axes.length === 0 ? value : apply('Slice', [value, ends(0), ends(1), int64Vector(value, axes)]);
  return reshape(square(mul(first, scalarLike(value, 0))), []);
}
