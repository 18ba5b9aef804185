import { Graph, type Value } from '../graph/graph.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { transpose } from '../graph/ops/shape.ts';
import { elementCount } from '../graph/types.ts';
import { filterTransform, POINTS } from './winograd.ts';

/**
 * What `drawingLayout` takes instead of a weight [out, in, ...taps], and what is made of it once:
 * - `columns` [taps x in, out], for products with columns and with rows;
 * - `shifted` [in, taps x out], for the product with all taps;
 * - `tiles` [36, in, out], the points of Winograd's transform, four times as large as the 3x3 filters.
 */
export type WeightForm = 'columns' | 'shifted' | 'tiles';

/** The shape of a weight [out, in, ...taps] in a form. */
export function formShape(form: WeightForm, [outputs = 1, inputs = 1, ...taps]: readonly number[]): number[] {
  if (form === 'tiles') return [POINTS ** 2, inputs, outputs];
  const count = elementCount(taps);
  return form === 'columns' ? [count * inputs, outputs] : [inputs, count * outputs];
}

/** A graph that brings a weight, `weight` [out, in, taps], into a form, `prepared` [a, b, out], whose first axes may be one. */
export function formGraph(form: WeightForm): Graph {
  const graph = new Graph(form);
  const weight = graph.input('weight', 'float32', ['out', 'in', form === 'tiles' ? 9 : 'taps']);
  // [in, taps, out]: a transpose of a matrix. What follows moves whole rows.
  const shifted = transpose(weight, [1, 2, 0]);
  graph.output('prepared', prepared(form, shifted));
  return graph;
}

function prepared(form: WeightForm, shifted: Value): Value {
  if (form === 'shifted') return shifted;
  if (form === 'columns') return transpose(shifted, [1, 0, 2]);
  return transpose(matmul(filterTransform(shifted), shifted), [1, 0, 2]);
}
