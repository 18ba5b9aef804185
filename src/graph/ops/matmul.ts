import { GraphError } from '../../errors.ts';
import { recomputed } from '../autodiff/recompute.ts';
import type { Value } from '../graph.ts';
import {
  apply,
  defineOp,
  float,
  floatAttribute,
  type GradientContext,
  int,
  intAttribute,
  required,
  scalarLike,
} from '../registry.ts';
import { broadcastShapes, formatType } from '../types.ts';
import { mul } from './elementwise.ts';
import { transpose } from './shape.ts';

defineOp({
  opType: 'MatMul',
  infer: (context) => {
    const [a, b] = [context.x, required(context, 1)];
    const [rows, inner] = a.shape.slice(-2);
    const [innerOfB, columns] = b.shape.slice(-2);
    if (a.shape.length < 2 || b.shape.length < 2 || inner !== innerOfB || a.dtype !== b.dtype) {
      throw new GraphError(
        `${context.where}: '${a.name}' ${formatType(a)} and '${b.name}' ${formatType(b)} do not multiply`,
      );
    }
    const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2), context.where);
    return { dtype: a.dtype, shape: [...batch, rows ?? 1, columns ?? 1] };
  },
  gradient: (context) => {
    const { dy } = context;
    const [a, b] = factors(context);
    // Gemm reads a transposed matrix in place, where Transpose would copy it.
    if (a.shape.length === 2 && b.shape.length === 2)
      return [() => gemm(dy, b, undefined, { transB: true }), () => gemm(a, dy, undefined, { transA: true })];
    return [() => matmul(dy, swapLastAxes(b)), () => matmul(swapLastAxes(a), dy)];
  },
});

/** Both factors, as the backward pass should take them. */
function factors(context: GradientContext): [a: Value, b: Value] {
  const [a, b] = [context.x, required(context, 1)];
  return [recomputed(a, context.dy), recomputed(b, context.dy)];
}

/** Matrix product over the last two axes; leading axes broadcast. Both inputs have rank >= 2. */
export function matmul(a: Value, b: Value): Value {
  return apply('MatMul', [a, b]);
}

function swapLastAxes(x: Value): Value {
  const rank = x.shape.length;
  const perm = x.shape.map((_, axis) => (axis < rank - 2 ? axis : 2 * rank - 3 - axis));
  return transpose(x, perm);
}

/** Options of `gemm`. */
export interface GemmOptions {
  /** Whether a is transposed; default false. */
  readonly transA?: boolean;
  /** Whether b is transposed; default false. */
  readonly transB?: boolean;
  /** The factor of the product; default 1. */
  readonly alpha?: number;
  /** The factor of c; default 1. */
  readonly beta?: number;
}

defineOp({
  opType: 'Gemm',
  infer: (context) => {
    const [a, b] = [context.x, required(context, 1)];
    const transA = intAttribute(context.attributes, 'transA', 0) === 1;
    const transB = intAttribute(context.attributes, 'transB', 0) === 1;
    const [rows, inner] = transA ? a.shape.toReversed() : a.shape;
    const [innerOfB, columns] = transB ? b.shape.toReversed() : b.shape;
    if (a.shape.length !== 2 || b.shape.length !== 2 || inner !== innerOfB || a.dtype !== b.dtype) {
      throw new GraphError(
        `${context.where}: '${a.name}' ${formatType(a)} and '${b.name}' ${formatType(b)} do not multiply (transA ${transA}, transB ${transB})`,
      );
    }
    const shape = [rows ?? 1, columns ?? 1];
    const c = context.inputs[2];
    if (c) broadcastShapes(shape, c.shape, context.where);
    return { dtype: a.dtype, shape };
  },
  gradient: (context) => {
    const { attributes, dy } = context;
    const [a, b] = factors(context);
    const alpha = floatAttribute(attributes, 'alpha', 1);
    const beta = floatAttribute(attributes, 'beta', 1);
    const transA = intAttribute(attributes, 'transA', 0) === 1;
    const transB = intAttribute(attributes, 'transB', 0) === 1;
    return [
      () =>
        transA
          ? gemm(b, dy, undefined, { transA: transB, transB: true, alpha })
          : gemm(dy, b, undefined, { transB: !transB, alpha }),
      () =>
        transB
          ? gemm(dy, a, undefined, { transA: true, transB: transA, alpha })
          : gemm(a, dy, undefined, { transA: !transA, alpha }),
      () => (beta === 1 ? dy : mul(dy, scalarLike(dy, beta))),
    ];
  },
});

/** alpha op(a) op(b) + beta c for matrices; op transposes if asked to, and c broadcasts to the result. */
export function gemm(a: Value, b: Value, c?: Value, options: GemmOptions = {}): Value {
  return apply('Gemm', c ? [a, b, c] : [a, b], {
    alpha: float(options.alpha ?? 1),
    beta: float(options.beta ?? 1),
    transA: int(options.transA ? 1 : 0),
    transB: int(options.transB ? 1 : 0),
  });
}
