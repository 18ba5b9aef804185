import { GraphError } from '../../errors.ts';
import type { Value } from '../graph.ts';
import { apply, defineOp, type InferenceContext, required, scalarLike } from '../registry.ts';
import { type Dim, elementCount, formatShape, toTensorData } from '../types.ts';
import { mul } from './elementwise.ts';
import { averagePool } from './pooling.ts';

/** The whole factors by which a Resize enlarges height and width. @throws {GraphError} for every other Resize. */
export function enlargement(
  context: Pick<InferenceContext, 'where' | 'inputs' | 'attributes'>,
): [number, number] {
  const { where, inputs, attributes } = context;
  const x = required(context, 0);
  const text = (name: string, fallback: string) => {
    const attribute = attributes[name];
    return attribute?.kind === 'string' ? attribute.value : fallback;
  };
  const given = (index: number): number[] =>
    Array.from<number | bigint, number>(inputs[index]?.data ?? [], Number);
  const fromSizes = () => given(3).map((size, axis) => size / elementCount([x.shape[axis] ?? 1]));
  const factors = inputs[2]?.data?.length ? given(2) : fromSizes();
  const [batch, channels, height = 0, width = 0] = factors;
  const nearest =
    text('mode', 'nearest') === 'nearest' &&
    text('coordinate_transformation_mode', 'half_pixel') === 'asymmetric' &&
    text('nearest_mode', 'round_prefer_floor') === 'floor';
  const whole =
    batch === 1 &&
    channels === 1 &&
    [height, width].every((factor) => Number.isInteger(factor) && factor >= 1);
  if (nearest && whole && factors.length === 4) return [height, width];
  throw new GraphError(
    `${where}: only the nearest, asymmetric Resize of images by whole factors is supported, not ${formatShape(factors)}`,
  );
}

defineOp({
  opType: 'Resize',
  infer: (context) => {
    const x = required(context, 0);
    const factors = [1, 1, ...enlargement(context)];
    const scaled = (dim: Dim, axis: number) =>
      factors[axis] === 1 ? dim : elementCount([dim]) * (factors[axis] ?? 1);
    return [{ dtype: x.dtype, shape: x.shape.map(scaled) }];
  },
  gradient: ({ node, inputs, gradients }) => {
    const [dy] = gradients;
    if (!dy) return [];
    const [height, width] = enlargement({
      where: `node '${node.name}'`,
      inputs,
      attributes: node.attributes,
    });
    const mean = averagePool(dy, [height, width]);
    return [mul(mean, scalarLike(mean, height * width))];
  },
});

/** Repeats every pixel of x [batch, channels, height, width] `factors` times down and across. */
export function upsampleNearest(x: Value, factors: readonly [number, number]): Value {
  const scales = x.graph.constant('float32', [4], toTensorData('float32', [1, 1, ...factors]));
  return apply('Resize', [x, null, scales], {
    mode: { kind: 'string', value: 'nearest' },
    coordinate_transformation_mode: { kind: 'string', value: 'asymmetric' },
    nearest_mode: { kind: 'string', value: 'floor' },
  });
}

export function upsampleNearest2x(x: Value): Value {
  return upsampleNearest(x, [2, 2]);
}
