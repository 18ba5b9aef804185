// An op that the package does not have, with its gradient.
import { abs, add, apply, defineOp, div, scalarLike, square, type Value } from 'iso-diffusion/graph';

defineOp({
  opType: 'Softsign',
  infer: ({ x }) => x,
  gradient: ({ x, dy }) => div(dy, square(add(abs(x), scalarLike(x, 1)))),
});

/** x / (1 + |x|). */
export const softsign = (x: Value): Value => apply('Softsign', [x]);
