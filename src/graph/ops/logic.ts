import { GraphError } from '../../errors.ts';
import type { Value } from '../graph.ts';
import { apply, defineOp, required } from '../registry.ts';
import { broadcastShapes, type DType } from '../types.ts';

/** Ops whose results are no numbers: nothing is differentiated through them. */
function defineTruth(opType: string, operands?: DType): (a: Value, b: Value) => Value {
  defineOp({
    opType,
    infer: (context) => {
      const [a, b] = [required(context, 0), required(context, 1)];
      if (a.dtype !== b.dtype || (operands && a.dtype !== operands))
        throw new GraphError(
          `${context.where}: '${a.name}' is ${a.dtype} and '${b.name}' is ${b.dtype}, which are not compared`,
        );
      return [{ dtype: 'bool', shape: broadcastShapes(a.shape, b.shape, context.where) }];
    },
  });
  return (a, b) => apply(opType, [a, b]);
}

export const greaterOrEqual = defineTruth('GreaterOrEqual');
export const lessOrEqual = defineTruth('LessOrEqual');
export const and = defineTruth('And', 'bool');
export const or = defineTruth('Or', 'bool');
export const xor = defineTruth('Xor', 'bool');

defineOp({
  opType: 'Not',
  infer: (context) => [{ dtype: 'bool', shape: required(context, 0).shape }],
});
/** True where x is false. */
export function not(x: Value): Value {
  return apply('Not', [x]);
}
