import type { Value } from './graph.ts';
import { scalarLike } from './op-registry.ts';
import { add, mul } from './ops/elementwise.ts';
import { slice } from './ops/indexing.ts';
import { reshape } from './ops/reshape.ts';
import { fixedShape } from './tensor-type.ts';

/** Adds the nodes of a value a second time; `trigger` is a gradient, and the nodes must depend on it. */
export type Recipe = (trigger: Value) => Value;

const recipes = new WeakMap<Value, Recipe>();
const repeated = new WeakMap<Value, Value>();

/**
 * Marks a value that is cheaper to compute again in the backward pass than to keep until then. Rules take such
 * values by `again`. The recipe must give the same bits, from values that are kept or that it takes by `again`.
 */
export function recomputable(value: Value, recipe: Recipe): Value {
  recipes.set(value, recipe);
  return value;
}

export function isRecomputable(value: Value): boolean {
  return recipes.has(value);
}

/** The value as the backward pass should use it: computed anew, once, if it has a recipe, else the value itself. */
export function again(value: Value, trigger: Value): Value {
  const recipe = recipes.get(value);
  if (!recipe) return value;
  const known = repeated.get(value);
  if (known) return known;
  const anew = recipe(trigger);
  repeated.set(value, anew);
  return anew;
}

/**
 * `value`, which should be small, as a value that exists only after `trigger`: plus 0 times one of its elements.
 * Without this, onnxruntime would find that the nodes after it exist already, or run them early.
 */
export function after(value: Value, trigger: Value): Value {
  const shape = fixedShape(trigger.shape);
  const element = reshape(
    shape.reduce((cut, _, axis) => slice(cut, 0, 1, axis), trigger),
    [1],
  );
  return add(value, mul(element, scalarLike(element, 0)));
}
