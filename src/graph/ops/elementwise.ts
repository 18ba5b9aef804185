import { GraphError } from '../../errors.ts';
import { withGradient } from '../autodiff/custom.ts';
import { isRecomputable, recomputable, recomputed } from '../autodiff/recompute.ts';
import type { Value } from '../graph.ts';
import {
  apply,
  defineOp,
  floatAttribute,
  type GradientContext,
  type InferenceContext,
  int,
  intAttribute,
  required,
  scalarLike,
} from '../registry.ts';
import {
  broadcastShapes,
  type DType,
  dtypeFromOnnx,
  fixedShape,
  isFloat,
  ONNX_DATA_TYPE,
  type TensorType,
} from '../types.ts';
import { reshape } from './shape.ts';

// Functions of one tensor.

/** @param gradient from the input x, the output y and dL/dy to dL/dx. */
function defineUnary(opType: string, gradient: (context: GradientContext) => Value | undefined) {
  defineOp({ opType, infer: ({ x }) => x, gradient });
  return (x: Value): Value => apply(opType, [x]);
}

/** -x. */
export const neg = defineUnary('Neg', ({ dy }) => neg(dy));
/** e to the power of x. */
export const exp = defineUnary('Exp', ({ y, dy }) => mul(dy, y));
/** The natural logarithm. */
export const log = defineUnary('Log', ({ x, dy }) => div(dy, x));
/** The square root. */
export const sqrt = defineUnary('Sqrt', ({ y, dy }) => div(mul(dy, scalarLike(dy, 0.5)), y));
/** 1 / x. */
export const reciprocal = defineUnary('Reciprocal', ({ y, dy }) => neg(mul(dy, mul(y, y))));
/** The sine of x in radians. */
export const sin = defineUnary('Sin', ({ x, dy }) => mul(dy, cos(x)));
/** The cosine of x in radians. */
export const cos = defineUnary('Cos', ({ x, dy }) => neg(mul(dy, sin(x))));
/** The hyperbolic tangent. */
export const tanh = defineUnary('Tanh', ({ y, dy }) => mul(dy, sub(scalarLike(y, 1), mul(y, y))));
/** 1 / (1 + e^-x). */
export const sigmoid = defineUnary('Sigmoid', ({ y, dy }) => mul(dy, mul(y, sub(scalarLike(y, 1), y))));
/** max(x, 0). At 0 the gradient is 0, as in torch. */
export const relu = defineUnary('Relu', ({ y, dy }) => where(greater(y, scalarLike(y, 0)), dy, scalarLike(dy, 0)));
/** |x|. At 0 the gradient is 1. */
export const abs = defineUnary('Abs', ({ x, dy }) => where(less(x, scalarLike(x, 0)), neg(dy), dy));
/** The error function; its derivative is 2 / sqrt(pi) exp(-x^2). */
export const erf = defineUnary('Erf', ({ x, dy }) =>
  mul(dy, mul(exp(neg(mul(x, x))), scalarLike(x, 2 / Math.sqrt(Math.PI)))),
);
/** log(1 + e^x). */
export const softplus = defineUnary('Softplus', ({ x, dy }) => mul(dy, sigmoid(x)));
/** x itself, as a value of its own. */
export const identity = defineUnary('Identity', ({ dy }) => dy);

// Constant between their steps: the gradient is 0, as in torch.

/** The largest integer that is not above x. */
export const floor = defineUnary('Floor', () => undefined);
/** The smallest integer that is not below x. */
export const ceil = defineUnary('Ceil', () => undefined);
/** The nearest integer, of two the even one. */
export const round = defineUnary('Round', () => undefined);
/** -1, 0 or 1. */
export const sign = defineUnary('Sign', () => undefined);

defineOp({
  opType: 'Clip',
  infer: ({ x }) => x,
  gradient: ({ x, dy, inputs: [, low, high] }) => {
    const zero = scalarLike(dy, 0);
    let dx = dy;
    if (low) dx = where(less(x, low), zero, dx);
    if (high) dx = where(greater(x, high), zero, dx);
    return dx;
  },
});
/** Limits x to [low, high]; the gradient is 0 outside and passes at the limits, as in torch. */
export function clip(x: Value, low: number, high: number): Value {
  return apply('Clip', [x, scalarLike(x, low), scalarLike(x, high)]);
}

defineOp({
  opType: 'LeakyRelu',
  infer: ({ x }) => x,
  gradient: ({ x, dy, attributes }) => {
    const alpha = floatAttribute(attributes, 'alpha', 0.01);
    return where(greater(x, scalarLike(x, 0)), dy, mul(dy, scalarLike(dy, alpha)));
  },
});

defineOp({
  opType: 'Cast',
  infer: ({ x, attributes, where }) => {
    const to = intAttribute(attributes, 'to', 0);
    const dtype = dtypeFromOnnx(to);
    if (!dtype) throw new GraphError(`${where}: target type ${to || 'missing'} is not supported`);
    return { dtype, shape: x.shape };
  },
  gradient: ({ x, dy }) => (isFloat(x.dtype) ? cast(dy, x.dtype) : undefined),
});
/** x in another dtype; towards integers, fractions are cut off. */
export function cast(x: Value, dtype: DType): Value {
  return x.dtype === dtype ? x : apply('Cast', [x], { to: int(ONNX_DATA_TYPE[dtype]) });
}

/** x in float32 where it is float16, whose sums over many elements would be wrong or infinite; else x itself. */
export function widened(x: Value): Value {
  return x.dtype === 'float16' ? cast(x, 'float32') : x;
}

// Functions of two tensors, whose shapes broadcast as in NumPy.

function inferBroadcast({ where, inputs }: InferenceContext, first = 0): TensorType {
  const [a, b] = [required({ where, inputs }, first), required({ where, inputs }, first + 1)];
  if (a.dtype !== b.dtype)
    throw new GraphError(`${where}: '${a.name}' is ${a.dtype} but '${b.name}' is ${b.dtype}: cast one of them`);
  return { dtype: a.dtype, shape: broadcastShapes(a.shape, b.shape, `${where} of '${a.name}' and '${b.name}'`) };
}

type BinaryGradient = (a: Value, b: Value, dy: Value, y: Value) => Value;

function defineBinary(opType: string, left: BinaryGradient, right: BinaryGradient) {
  defineOp({
    opType,
    infer: (context) => inferBroadcast(context),
    gradient: (context) => {
      const [a, b] = [context.x, required(context, 1)];
      const { y, dy } = context;
      return [() => left(a, b, dy, y), () => right(a, b, dy, y)];
    },
  });
  return (a: Value, b: Value): Value => apply(opType, [a, b]);
}

/** a + b. */
export const add = defineBinary(
  'Add',
  (_a, _b, dy) => dy,
  (_a, _b, dy) => dy,
);
/** a - b. */
export const sub = defineBinary(
  'Sub',
  (_a, _b, dy) => dy,
  (_a, _b, dy) => neg(dy),
);
/** a b, element by element. */
export const mul = defineBinary(
  'Mul',
  (_a, b, dy) => mul(dy, b),
  (a, _b, dy) => mul(dy, a),
);
/** a / b. */
export const div = defineBinary(
  'Div',
  (_a, b, dy) => div(dy, b),
  (_a, b, dy, y) => neg(div(mul(dy, y), b)),
);
/** a to the power of b. The derivatives are b a^(b-1) and y ln(a), the second defined for a > 0 only. */
export const pow = defineBinary(
  'Pow',
  (a, b, dy) => mul(dy, mul(b, pow(a, sub(b, scalarLike(b, 1))))),
  (a, _b, dy, y) => mul(dy, mul(y, log(a))),
);

/** The gradient goes to the chosen input; where both are equal, half to each, as in torch. */
function defineExtremum(opType: 'Max' | 'Min', chosen: (a: Value, b: Value) => Value) {
  const share = (mine: Value, other: Value, dy: Value) => {
    const half = mul(dy, scalarLike(dy, 0.5));
    return where(equal(mine, other), half, where(chosen(mine, other), dy, scalarLike(dy, 0)));
  };
  return defineBinary(opType, share, (a, b, dy) => share(b, a, dy));
}
/** The larger of a and b. */
export const maximum = defineExtremum('Max', (a, b) => greater(a, b));
/** The smaller of a and b. */
export const minimum = defineExtremum('Min', (a, b) => less(a, b));

/** Remainders, for computing with positions and timesteps; not differentiated. */
defineOp({ opType: 'Mod', infer: (context) => inferBroadcast(context) });

// Comparisons and logic give bool, which is not differentiated.

function defineTruth(opType: string, operands?: DType) {
  defineOp({
    opType,
    infer: (context) => {
      const { dtype, shape } = inferBroadcast(context);
      if (operands && dtype !== operands)
        throw new GraphError(`${context.where}: '${context.x.name}' is ${dtype}, not ${operands}`);
      return { dtype: 'bool', shape };
    },
  });
  return (a: Value, b: Value): Value => apply(opType, [a, b]);
}
/** a > b, as bool. */
export const greater = defineTruth('Greater');
/** a < b, as bool. */
export const less = defineTruth('Less');
/** a = b, as bool. */
export const equal = defineTruth('Equal');
/** a >= b, as bool. */
export const greaterOrEqual = defineTruth('GreaterOrEqual');
/** a <= b, as bool. */
export const lessOrEqual = defineTruth('LessOrEqual');
/** True where a and b, both bool, are true. */
export const and = defineTruth('And', 'bool');
/** True where a or b, both bool, is true. */
export const or = defineTruth('Or', 'bool');
/** True where one of a and b, both bool, is true and the other is not. */
export const xor = defineTruth('Xor', 'bool');

defineOp({ opType: 'Not', infer: ({ x }) => ({ dtype: 'bool', shape: x.shape }) });
/** True where x, bool, is false. */
export function not(x: Value): Value {
  return apply('Not', [x]);
}

defineOp({
  opType: 'Where',
  infer: (context) => {
    const condition = context.x;
    const { dtype, shape } = inferBroadcast(context, 1);
    if (condition.dtype !== 'bool')
      throw new GraphError(`${context.where}: the condition '${condition.name}' is ${condition.dtype}, not bool`);
    return { dtype, shape: broadcastShapes(condition.shape, shape, context.where) };
  },
  gradient: ({ x: condition, dy }) => {
    const zero = scalarLike(dy, 0);
    return [undefined, () => where(condition, dy, zero), () => where(condition, zero, dy)];
  },
});
/** `a` where the condition, bool, is true, `b` elsewhere; all three broadcast. */
export function where(condition: Value, a: Value, b: Value): Value {
  return apply('Where', [condition, a, b]);
}

// Compositions of the ops above.

/** x times x. */
export function square(x: Value): Value {
  return withGradient(mul(x, x), [x], (dy) => [mul(mul(dy, x), scalarLike(dy, 2))]);
}

/** x sigmoid(x), also called swish. */
export function silu(x: Value): Value {
  return x.graph.target === 'cuda' ? siluOfOneKernel(x) : siluFromGate(x, sigmoid(x));
}

/** `silu` from x and its sigmoid. The derivative is y + sigmoid(x) (1 - y), cheaper than the product rule. */
export function siluFromGate(x: Value, gateOfX: Value): Value {
  const kept = { y: mul(x, gateOfX), gate: gateOfX };
  let anew: typeof kept | undefined;
  const again = (trigger: Value) => {
    const source = recomputed(x, trigger);
    if (source === x) return kept;
    if (anew) return anew;
    const gate = sigmoid(source);
    anew = { y: mul(source, gate), gate };
    return anew;
  };
  if (isRecomputable(x)) recomputable(kept.y, (trigger) => again(trigger).y);
  return withGradient(kept.y, [x], (dy) => {
    const { y, gate } = again(dy);
    return [mul(dy, add(y, mul(gate, sub(scalarLike(y, 1), y))))];
  });
}

/**
 * `silu` for cuda, where onnxruntime makes one kernel of x sigmoid(a x) if nothing else needs the sigmoid (QuickGelu). The
 * derivative is sigmoid(x) (1 + x sigmoid(-x)).
 */
function siluOfOneKernel(x: Value): Value {
  return withGradient(mul(x, sigmoid(x)), [x], (dy) => {
    // In another shape: else onnxruntime would find that the sigmoid exists, and keep it.
    const [flat, flatDy] = [reshape(x, [-1]), reshape(dy, [-1])];
    const opposite = mul(flat, sigmoid(mul(flat, scalarLike(x, -1))));
    const slope = mul(mul(flatDy, sigmoid(flat)), add(opposite, scalarLike(x, 1)));
    return [reshape(slope, fixedShape(x.shape))];
  });
}

/** x itself, as if it did not depend on anything: no gradient flows through it. */
export function stopGradient(x: Value): Value {
  return withGradient(identity(x), [], () => []);
}
