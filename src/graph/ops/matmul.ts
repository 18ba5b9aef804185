import { GraphError } from '../../errors.ts';
import { again } from '../autodiff/recompute.ts';
import type { Value } from '../graph.ts';
import { apply, defineOp, floatAttribute, intAttribute, required, scalarLike } from '../registry.ts';
import { broadcastShapes, formatShape } from '../types.ts';
import { mul } from './elementwise.ts';
import { sumTo } from './reduce.ts';
import { transpose } from './reshape.ts';

defineOp({
  opType: 'MatMul',
  infer: (context) => {
    const a = required(context, 0);
    const b = required(context, 1);
    const [rows, inner] = a.shape.slice(-2);
    const [innerOfB, columns] = b.shape.slice(-2);
    if (a.shape.length < 2 || b.shape.length < 2 || inner !== innerOfB || a.dtype !== b.dtype) {
      throw new GraphError(
        `${context.where}: '${a.name}' ${a.dtype} ${formatShape(a.shape)} and '${b.name}' ${b.dtype} ${formatShape(b.shape)} do not multiply`,
      );
    }
    const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2), context.where);
    return [{ dtype: a.dtype, shape: [...batch, rows ?? 1, columns ?? 1] }];
  },
  gradient: ({ inputs, gradients, needed }) => {
    const [dy] = gradients;
    const [a, b] = operands(inputs, dy);
    if (!a || !b || !dy) return [];
    // Gemm reads a transposed matrix in place, where Transpose would copy it.
    const matrices = a.shape.length === 2 && b.shape.length === 2;
    const da = () =>
      matrices ? gemm(dy, b, undefined, { transB: true }) : sumTo(matmul(dy, swapLastAxes(b)), a.shape);
    const db = () =>
      matrices ? gemm(a, dy, undefined, { transA: true }) : sumTo(matmul(swapLastAxes(a), dy), b.shape);
    return [needed[0] ? da() : undefined, needed[1] ? db() : undefined];
  },
});

/** The inputs as the backward pass should take them. */
function operands(inputs: readonly (Value | null)[], dy: Value | undefined): (Value | null)[] {
  return inputs.map((input) => (input && dy ? again(input, dy) : input));
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

export interface GemmOptions {
  readonly transA?: boolean;
  readonly transB?: boolean;
  readonly alpha?: number;
  readonly beta?: number;
}

defineOp({
  opType: 'Gemm',
  infer: (context) => {
    const a = required(context, 0);
    const b = required(context, 1);
    const transA = intAttribute(context.attributes, 'transA', 0) === 1;
    const transB = intAttribute(context.attributes, 'transB', 0) === 1;
    const [rows, inner] = transA ? a.shape.toReversed() : a.shape;
    const [innerOfB, columns] = transB ? b.shape.toReversed() : b.shape;
    if (a.shape.length !== 2 || b.shape.length !== 2 || inner !== innerOfB || a.dtype !== b.dtype) {
      throw new GraphError(
        `${context.where}: '${a.name}' ${a.dtype} ${formatShape(a.shape)} and '${b.name}' ${b.dtype} ${formatShape(b.shape)} do not multiply (transA ${transA}, transB ${transB})`,
      );
    }
    const shape = [rows ?? 1, columns ?? 1];
    const c = context.inputs[2];
    if (c) broadcastShapes(shape, c.shape, context.where);
    return [{ dtype: a.dtype, shape }];
  },
  gradient: ({ node, inputs, gradients, needed }) => {
    const [dy] = gradients;
    const [a, b, c] = operands(inputs, dy);
    if (!a || !b || !dy) return [];
    const alpha = floatAttribute(node.attributes, 'alpha', 1);
    const beta = floatAttribute(node.attributes, 'beta', 1);
    const transA = intAttribute(node.attributes, 'transA', 0) === 1;
    const transB = intAttribute(node.attributes, 'transB', 0) === 1;
    const da = () =>
      transA
        ? gemm(b, dy, undefined, { transA: transB, transB: true, alpha })
        : gemm(dy, b, undefined, { transB: !transB, alpha });
    const db = () =>
      transB
        ? gemm(dy, a, undefined, { transA: true, transB: transA, alpha })
        : gemm(a, dy, undefined, { transA: !transA, alpha });
    const dc = () => (c ? sumTo(beta === 1 ? dy : mul(dy, scalarLike(dy, beta)), c.shape) : undefined);
    return [needed[0] ? da() : undefined, needed[1] ? db() : undefined, needed[2] ? dc() : undefined];
  },
});

/** alpha op(a) op(b) + beta c for matrices, where op transposes if asked to and c broadcasts to the result. */
export function gemm(a: Value, b: Value, c?: Value, options: GemmOptions = {}): Value {
  return apply('Gemm', c ? [a, b, c] : [a, b], {
    alpha: { kind: 'float', value: options.alpha ?? 1 },
    beta: { kind: 'float', value: options.beta ?? 1 },
    transA: { kind: 'int', value: options.transA ? 1 : 0 },
    transB: { kind: 'int', value: options.transB ? 1 : 0 },
  });
}
