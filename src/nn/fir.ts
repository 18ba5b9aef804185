import type { Value } from '../graph/graph.ts';
import { add, mul } from '../graph/ops/elementwise.ts';
import { pad, slice } from '../graph/ops/indexing.ts';
import { scalarLike } from '../graph/registry.ts';
import type { Layout } from './layout.ts';

// Resampling by the filter (1, 3, 3, 1), as diffusers' `downsample_2d` and `upsample_2d` (from score-SDE): it is the filter
// (1, 2, 1), whose border is zero, and then means of 2 pixels, or before it every pixel twice.

/** Half the size, by the filter (1, 3, 3, 1) / 8 along both axes; height and width are even. */
export function firDownsample2x(maps: Value, layout: Layout): Value {
  return layout.averagePool2x(smoothed(maps, layout));
}

/** Twice the size, by the filter (1, 3, 3, 1) / 4 along both axes. */
export function firUpsample2x(maps: Value, layout: Layout): Value {
  return smoothed(layout.upsampleNearest2x(maps), layout);
}

/** The filter (1, 2, 1) / 4 along height and width. */
function smoothed(maps: Value, { imageAxes }: Layout): Value {
  return imageAxes.slice(2).reduce((x, axis) => {
    const border = x.shape.map((_, i) => Number(i === axis));
    const wide = pad(x, [...border, ...border]);
    const length = Number(x.shape[axis]);
    const neighbours = add(slice(wide, 0, length, axis), slice(wide, 2, length + 2, axis));
    return mul(add(neighbours, add(x, x)), scalarLike(x, 0.25));
  }, maps);
}
