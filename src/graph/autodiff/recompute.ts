import type { Value } from '../graph.ts';

/**
 * Adds the nodes of a value a second time; `trigger` is a gradient, and the nodes must come `after` it: else onnxruntime
 * finds that they exist already.
 */
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
