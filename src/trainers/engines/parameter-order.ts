import { elementCount } from '../../graph/types.ts';
import type { ParameterSpec } from '../../models/model.ts';
import type { FeatureMaps } from '../../nn/layouts.ts';
import { inverseAxes, permuteAxes } from '../../nn/permute-axes.ts';
import { shapeIn } from '../step/gradient-graph.ts';

/** Puts the filters in a vector of the parameters `specs` into the order of `maps`, in place. Returns the vector. */
export function inFilterOrder(
  vector: Float32Array,
  specs: readonly ParameterSpec[],
  maps: FeatureMaps,
): Float32Array {
  return permuteFilters(vector, specs, ({ shape }) => [shape, maps.filterAxes]);
}

/** The way back: filters as in the state dict, [out, in, height, width]. */
export function inStateOrder(
  vector: Float32Array,
  specs: readonly ParameterSpec[],
  maps: FeatureMaps,
): Float32Array {
  return permuteFilters(vector, specs, (spec) => [shapeIn(maps, spec), inverseAxes(maps.filterAxes)]);
}

function permuteFilters(
  vector: Float32Array,
  specs: readonly ParameterSpec[],
  how: (spec: ParameterSpec) => [shape: readonly number[], axes: readonly number[]],
): Float32Array {
  const lengths = specs.map(({ shape }) => elementCount(shape));
  const scratch = new Float32Array(Math.max(0, ...lengths));
  let offset = 0;
  specs.forEach((spec, i) => {
    const length = lengths[i] ?? 0;
    const part = vector.subarray(offset, offset + length);
    if (spec.isFilter) part.set(permuteAxes(part, ...how(spec), scratch.subarray(0, length)));
    offset += length;
  });
  return vector;
}
