/** Values that the backward pass computes a second time instead of keeping them, and the order that this needs. */
import type { Value } from '../graph.ts';
import { apply, int64Vector, scalarLike } from '../registry.ts';
import { bytesPerElement, elementCount } from '../types.ts';

/**
 * Adds the nodes of a value a second time. They must come after `trigger`, a gradient (see `orderedAfter`): otherwise
 * onnxruntime finds that the same nodes exist already.
 */
type Recompute = (trigger: Value) => Value;

const recomputes = new WeakMap<Value, Recompute>();
const repeated = new WeakMap<Value, Value>();

/** In bytes. */
const MIN_RECOMPUTED = 2 ** 18;

/**
 * Whether a value is so large that it is better computed again than kept. That takes about ten nodes, and each of them some
 * microseconds, however little it computes.
 */
export function isWorthRecomputing({ shape, dtype }: Value): boolean {
  const isFixed = shape.every((dim) => typeof dim === 'number');
  return !isFixed || elementCount(shape) * bytesPerElement(dtype) >= MIN_RECOMPUTED;
}

/**
 * Marks a value that is cheaper to compute again in the backward pass than to keep until then, if it is large. Rules take such
 * values by `recomputed`. `recompute` must give the same bits, from values that are kept or taken by `recomputed`.
 */
export function recomputable(value: Value, recompute: Recompute): Value {
  if (isWorthRecomputing(value)) recomputes.set(value, recompute);
  return value;
}

export function isRecomputable(value: Value): boolean {
  return recomputes.has(value);
}

/** The value as the backward pass should use it: computed anew, once, if it is `recomputable`; else the value itself. */
export function recomputed(value: Value, trigger: Value): Value {
  const recompute = recomputes.get(value);
  if (!recompute) return value;
  const known = repeated.get(value);
  if (known) return known;
  const anew = recompute(trigger);
  repeated.set(value, anew);
  return anew;
}

/**
 * `value` with the same bits, but computed after the others: minus a zero that is made of them. (-0 - 0 is -0, where -0 + 0
 * would be 0.) onnxruntime can neither leave it out nor merge what follows with what follows `value`.
 */
export function orderedAfter(value: Value, others: readonly Value[]): Value {
  const zeros = others.map(zeroFrom);
  if (zeros.length === 0) return value;
  return apply('Sub', [value, zeros.reduce((a, b) => apply('Add', [a, b]))]);
}

/** +0, as a scalar: the square makes a +0 of -0. */
function zeroFrom(value: Value): Value {
  const axes = value.shape.map((_, axis) => axis);
  const ends = (end: number) =>
    int64Vector(
      value,
      axes.map(() => end),
    );
  const first = axes.length === 0 ? value : apply('Slice', [value, ends(0), ends(1), int64Vector(value, axes)]);
  const zero = apply('Mul', [first, scalarLike(value, 0)]);
  const square = apply('Mul', [zero, zero]);
  return axes.length === 0 ? square : apply('Reshape', [square, int64Vector(square, [])]);
}
