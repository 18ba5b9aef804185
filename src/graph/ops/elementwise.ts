import { GraphError } from '../../errors.ts';
import { withGradient } from '../autodiff/custom-gradient.ts';
import { again, isRecomputable, recomputable } from '../autodiff/recompute.ts';
import type { Attributes, Value } from '../graph.ts';
import { apply, defineOp, floatAttribute, type GradientContext, required, scalarLike } from '../registry.ts';
import { broadcastShapes, type DType, isFloat, type TensorType } from '../types.ts';
import { sumTo } from './reduce.ts';

/** Vector-Jacobian product of an op of one input: from its input x, output y and dL/dy to dL/dx. */
type UnaryGradient = (x: Value, y: Value, dy: Value, attributes: Attributes) => Value;

function defineUnary(opType: string, gradient: UnaryGradient): (x: Value) => Value {
  defineOp({
    opType,
    infer: (context) => {
      const { dtype, shape } = required(context, 0);
      return [{ dtype, shape }];
    },
    gradient: (context) => {
      const dy = context.gradients[0];
      const y = context.outputs[0];
      return dy && y ? [gradient(required(context, 0), y, dy, context.node.attributes)] : [];
    },
  });
  return (x) => apply(opType, [x]);
}

export const neg = defineUnary('Neg', (_x, _y, dy) => neg(dy));
export const exp = defineUnary('Exp', (_x, y, dy) => mul(dy, y));
export const log = defineUnary('Log', (x, _y, dy) => div(dy, x));
export const sqrt = defineUnary('Sqrt', (_x, y, dy) => div(mul(dy, scalarLike(dy, 0.5)), y));
export const reciprocal = defineUnary('Reciprocal', (_x, y, dy) => neg(mul(dy, mul(y, y))));
export const sin = defineUnary('Sin', (x, _y, dy) => mul(dy, cos(x)));
export const cos = defineUnary('Cos', (x, _y, dy) => neg(mul(dy, sin(x))));
export const tanh = defineUnary('Tanh', (_x, y, dy) => mul(dy, sub(scalarLike(y, 1), mul(y, y))));
export const sigmoid = defineUnary('Sigmoid', (_x, y, dy) => mul(dy, mul(y, sub(scalarLike(y, 1), y))));
/** At 0 the gradient is 0, as in torch. */
export const relu = defineUnary('Relu', (_x, y, dy) =>
  where(greater(y, scalarLike(y, 0)), dy, scalarLike(dy, 0)),
);
export const abs = defineUnary('Abs', (x, _y, dy) => where(less(x, scalarLike(x, 0)), neg(dy), dy));
/** d erf(x) / dx = 2 / sqrt(pi) exp(-x^2). */
export const erf = defineUnary('Erf', (x, _y, dy) =>
  mul(dy, mul(exp(neg(mul(x, x))), scalarLike(x, 2 / Math.sqrt(Math.PI)))),
);
export const softplus = defineUnary('Softplus', (x, _y, dy) => mul(dy, sigmoid(x)));
export const identity = defineUnary('Identity', (_x, _y, dy) => dy);

/** Vector-Jacobian products of a broadcasting op of two inputs, before the sum over broadcast axes. */
interface BinaryGradients {
  readonly left: (a: Value, b: Value, y: Value, dy: Value) => Value;
  readonly right: (a: Value, b: Value, y: Value, dy: Value) => Value;
}

function inferBroadcast(opType: string, a: Value, b: Value, dtype: DType = a.dtype): TensorType {
  if (a.dtype !== b.dtype) {
    throw new GraphError(
      `op '${opType}': '${a.name}' is ${a.dtype} but '${b.name}' is ${b.dtype}: cast one of them`,
    );
  }
  return { dtype, shape: broadcastShapes(a.shape, b.shape, `op '${opType}' of '${a.name}' and '${b.name}'`) };
}

function defineBinary(opType: string, gradients: BinaryGradients): (a: Value, b: Value) => Value {
  defineOp({
    opType,
    infer: (context) => [inferBroadcast(opType, required(context, 0), required(context, 1))],
    gradient: (context) => binaryGradient(context, gradients),
  });
  return (a, b) => apply(opType, [a, b]);
}

function binaryGradient(context: GradientContext, rules: BinaryGradients): (Value | undefined)[] {
  const a = required(context, 0);
  const b = required(context, 1);
  const y = context.outputs[0];
  const dy = context.gradients[0];
  if (!y || !dy) return [];
  return [
    context.needed[0] ? sumTo(rules.left(a, b, y, dy), a.shape) : undefined,
    context.needed[1] ? sumTo(rules.right(a, b, y, dy), b.shape) : undefined,
  ];
}

export const add = defineBinary('Add', { left: (_a, _b, _y, dy) => dy, right: (_a, _b, _y, dy) => dy });
export const sub = defineBinary('Sub', { left: (_a, _b, _y, dy) => dy, right: (_a, _b, _y, dy) => neg(dy) });
export const mul = defineBinary('Mul', {
  left: (_a, b, _y, dy) => mul(dy, b),
  right: (a, _b, _y, dy) => mul(dy, a),
});
export const div = defineBinary('Div', {
  left: (_a, b, _y, dy) => div(dy, b),
  right: (_a, b, y, dy) => neg(div(mul(dy, y), b)),
});
/** For the base: b a^(b-1); for the exponent: y ln(a), defined for a > 0 only. */
export const pow = defineBinary('Pow', {
  left: (a, b, _y, dy) => mul(dy, mul(b, pow(a, sub(b, scalarLike(b, 1))))),
  right: (a, _b, y, dy) => mul(dy, mul(y, log(a))),
});

/** The gradient goes to the chosen input; where both are equal, half to each, as in torch. */
function defineExtremum(
  opType: 'Max' | 'Min',
  chosen: (a: Value, b: Value) => Value,
): (a: Value, b: Value) => Value {
  const share = (mine: Value, other: Value, dy: Value) => {
    const half = mul(dy, scalarLike(dy, 0.5));
    return where(equal(mine, other), half, where(chosen(mine, other), dy, scalarLike(dy, 0)));
  };
  return defineBinary(opType, {
    left: (a, b, _y, dy) => share(a, b, dy),
    right: (a, b, _y, dy) => share(b, a, dy),
  });
}
export const maximum = defineExtremum('Max', (a, b) => greater(a, b));
export const minimum = defineExtremum('Min', (a, b) => less(a, b));

function defineComparison(opType: string): (a: Value, b: Value) => Value {
  defineOp({
    opType,
    infer: (context) => [inferBroadcast(opType, required(context, 0), required(context, 1), 'bool')],
  });
  return (a, b) => apply(opType, [a, b]);
}
export const greater = defineComparison('Greater');
export const less = defineComparison('Less');
export const equal = defineComparison('Equal');

defineOp({
  opType: 'Where',
  infer: (context) => {
    const condition = required(context, 0);
    const chosen = inferBroadcast('Where', required(context, 1), required(context, 2));
    if (condition.dtype !== 'bool')
      throw new GraphError(`op 'Where': the condition '${condition.name}' is ${condition.dtype}, not bool`);
    return [{ dtype: chosen.dtype, shape: broadcastShapes(condition.shape, chosen.shape, "op 'Where'") }];
  },
  gradient: ({ inputs, gradients, needed }) => {
    const [condition, a, b] = inputs;
    const dy = gradients[0];
    if (!condition || !a || !b || !dy) return [];
    const zero = scalarLike(dy, 0);
    return [
      undefined,
      needed[1] ? sumTo(where(condition, dy, zero), a.shape) : undefined,
      needed[2] ? sumTo(where(condition, zero, dy), b.shape) : undefined,
    ];
  },
});
/** `a` where the condition is true, `b` elsewhere; all three broadcast. */
export function where(condition: Value, a: Value, b: Value): Value {
  return apply('Where', [condition, a, b]);
}

defineOp({
  opType: 'Clip',
  infer: (context) => {
    const { dtype, shape } = required(context, 0);
    return [{ dtype, shape }];
  },
  gradient: (context) => {
    const x = required(context, 0);
    const dy = context.gradients[0];
    if (!dy) return [];
    const [, low, high] = context.inputs;
    const zero = scalarLike(dy, 0);
    let dx = dy;
    if (low) dx = where(less(x, low), zero, dx);
    if (high) dx = where(greater(x, high), zero, dx);
    return [dx];
  },
});
/** Limits x to [low, high]; the gradient is 0 outside and passes at the limits, as in torch. */
export function clip(x: Value, low: number, high: number): Value {
  return apply('Clip', [x, scalarLike(x, low), scalarLike(x, high)]);
}

defineOp({
  opType: 'LeakyRelu',
  infer: (context) => {
    const { dtype, shape } = required(context, 0);
    return [{ dtype, shape }];
  },
  gradient: (context) => {
    const dy = context.gradients[0];
    if (!dy) return [];
    const x = required(context, 0);
    const alpha = floatAttribute(context.node.attributes, 'alpha', 0.01);
    return [where(greater(x, scalarLike(x, 0)), dy, mul(dy, scalarLike(dy, alpha)))];
  },
});

const onnxDTypes: Partial<Record<DType, number>> = {
  float32: 1,
  uint8: 2,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
};
defineOp({
  opType: 'Cast',
  infer: (context) => {
    const to = context.attributes.to;
    const dtype = (Object.keys(onnxDTypes) as DType[]).find(
      (name) => to?.kind === 'int' && onnxDTypes[name] === to.value,
    );
    if (!dtype)
      throw new GraphError(
        `${context.where}: target type ${to?.kind === 'int' ? to.value : 'missing'} is not supported`,
      );
    return [{ dtype, shape: required(context, 0).shape }];
  },
  gradient: (context) => {
    const x = required(context, 0);
    const dy = context.gradients[0];
    return [dy && isFloat(x.dtype) ? cast(dy, x.dtype) : undefined];
  },
});
export function cast(x: Value, dtype: DType): Value {
  if (x.dtype === dtype) return x;
  return apply('Cast', [x], { to: { kind: 'int', value: onnxDTypes[dtype] ?? 1 } });
}

/** x * sigmoid(x), also called swish. */
export function silu(x: Value): Value {
  const y = siluFromGate(x, sigmoid(x));
  if (isRecomputable(x)) recomputable(y, (trigger) => siluOf(again(x, trigger)).y);
  return y;
}

/** `silu` from x and its sigmoid. The derivative is y + sigmoid(x) (1 - y), cheaper than the product rule. */
export function siluFromGate(x: Value, gateOfX: Value): Value {
  const kept = siluOf(x, gateOfX);
  return withGradient(kept.y, [x], (dy) => {
    const anew = again(x, dy);
    const { y, gate } = anew === x ? kept : siluOf(anew);
    return [mul(dy, add(y, mul(gate, sub(scalarLike(y, 1), y))))];
  });
}

function siluOf(x: Value, gate = sigmoid(x)): { y: Value; gate: Value } {
  return { y: mul(x, gate), gate };
}

export function square(x: Value): Value {
  return mul(x, x);
}

/** x itself, as if it did not depend on anything: no gradient flows through. */
export function stopGradient(x: Value): Value {
  return withGradient(identity(x), [], () => []);
}
