import { GraphError } from '../../errors.ts';
import type { Value } from '../graph.ts';
import { apply, defineOp, required } from '../registry.ts';
import { broadcastShapes } from '../types.ts';

/** Functions that are constant between their steps: their gradient is 0, as in torch. */
function defineSteps(opType: string): (x: Value) => Value {
  defineOp({
    opType,
    infer: (context) => {
      const { dtype, shape } = required(context, 0);
      return [{ dtype, shape }];
    },
    gradient: () => [],
  });
  return (x) => apply(opType, [x]);
}

export const floor = defineSteps('Floor');
export const ceil = defineSteps('Ceil');
export const round = defineSteps('Round');
export const sign = defineSteps('Sign');

/** Remainders, for computing with positions and timesteps; not differentiated. */
defineOp({
  opType: 'Mod',
  infer: (context) => {
    const [a, b] = [required(context, 0), required(context, 1)];
    if (a.dtype !== b.dtype)
      throw new GraphError(`${context.where}: '${a.name}' is ${a.dtype}, but '${b.name}' is ${b.dtype}`);
    return [{ dtype: a.dtype, shape: broadcastShapes(a.shape, b.shape, context.where) }];
  },
});
