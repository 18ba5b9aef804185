import { GraphError } from '../../errors.ts';
import type { Value } from '../graph.ts';
import {
  apply,
  constantIntegers,
  defineOp,
  type InferenceContext,
  int64Vector,
  required,
} from '../registry.ts';
import { elementCount, fixedShape, formatShape } from '../types.ts';
import { reduceSum } from './reduce.ts';
import { reshape } from './reshape.ts';

function repeatsOf(context: InferenceContext): number[] {
  const x = required(context, 0);
  const repeats = constantIntegers(context, 1, 'the repeats');
  if (repeats.length === x.shape.length && repeats.every((count) => count >= 1)) return repeats;
  throw new GraphError(
    `${context.where}: the repeats ${formatShape(repeats)} do not fit ${formatShape(x.shape)}`,
  );
}

defineOp({
  opType: 'Tile',
  infer: (context) => {
    const { dtype, shape } = required(context, 0);
    const repeats = repeatsOf(context);
    return [
      {
        dtype,
        shape: shape.map((dim, i) => (repeats[i] === 1 ? dim : elementCount([dim]) * (repeats[i] ?? 1))),
      },
    ];
  },
  gradient: ({ node, inputs, gradients }) => {
    const [x] = inputs;
    const [dy] = gradients;
    if (!x || !dy) return [];
    const where = `node '${node.name}'`;
    const repeats = repeatsOf({ where, inputs, attributes: node.attributes, outputCount: 1 });
    const shape = fixedShape(x.shape);
    // Each axis as copies by positions; the copies are added up.
    const copies = reshape(
      dy,
      shape.flatMap((length, axis) => [repeats[axis] ?? 1, length]),
    );
    const summed = reduceSum(
      copies,
      shape.map((_, axis) => 2 * axis),
    );
    return [shape.length === 0 ? dy : reshape(summed, shape)];
  },
});

/** x laid side by side `repeats` times along each axis, as numpy.tile. */
export function tile(x: Value, repeats: readonly number[]): Value {
  return repeats.every((count) => count === 1) ? x : apply('Tile', [x, int64Vector(x, repeats)]);
}
