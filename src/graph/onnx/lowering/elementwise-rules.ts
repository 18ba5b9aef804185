import { GraphError } from '../../../errors.ts';
import type { Value } from '../../graph.ts';
import {
  abs,
  add,
  cast,
  clip,
  div,
  erf,
  exp,
  greater,
  maximum,
  minimum,
  mul,
  pow,
  relu,
  sigmoid,
  siluFromGate,
  softplus,
  sqrt,
  square,
  tanh,
  where,
} from '../../ops/elementwise.ts';
import { reduceMax, reduceMean, reduceMin, reduceSum } from '../../ops/reduce.ts';
import { apply, floatAttribute, intAttribute, scalarLike, textAttribute } from '../../registry.ts';
import { dtypeFromOnnx, normalizeAxis } from '../../types.ts';
import {
  knownTensor,
  type LoweringRule,
  type NodeContext,
  numbersFrom,
  numbersOf,
  operandAt,
  valueAt,
} from './operand.ts';

type Operation = (x: Value, context: NodeContext) => Value;
const onValue =
  (operation: Operation): LoweringRule =>
  (context) => [operation(valueAt(context, 0), context)];

const constant = (x: Value, value: number) => scalarLike(x, value);
const times = (x: Value, factor: number) => mul(x, constant(x, factor));
const plus = (x: Value, summand: number) => add(x, constant(x, summand));

const pairwise =
  (operation: (a: Value, b: Value) => Value, finish: (x: Value, count: number) => Value = (x) => x): LoweringRule =>
  (context) => {
    const values = context.inputs.flatMap((operand) => (operand ? [context.materialise(operand)] : []));
    const [first, ...rest] = values;
    if (!first) throw new GraphError(`${context.where}: it has no inputs`);
    return [finish(rest.reduce(operation, first), values.length)];
  };

const reduction =
  (operation: (x: Value, axes: number[], options: { keepdims: boolean }) => Value): LoweringRule =>
  (context) => {
    const x = valueAt(context, 0);
    const given = numbersFrom(context, 1, 'axes', 'the axes') ?? [];
    if (given.length === 0 && intAttribute(context.attributes, 'noop_with_empty_axes', 0) === 1) return [x];
    const axes = (given.length > 0 ? given : x.shape.map((_, axis) => axis)).map((axis) =>
      normalizeAxis(axis, x.shape.length, context.where),
    );
    return [operation(x, axes, { keepdims: intAttribute(context.attributes, 'keepdims', 1) === 1 })];
  };

/** 0.5 x (1 + erf(x / sqrt 2)), or with tanh (Hendrycks & Gimpel 2016). */
const gelu: Operation = (x, context) => {
  if (textAttribute(context.attributes, 'approximate', 'none') === 'none')
    return mul(times(x, 0.5), plus(erf(times(x, Math.SQRT1_2)), 1));
  const inner = times(add(x, times(mul(x, square(x)), 0.044715)), Math.sqrt(2 / Math.PI));
  return mul(times(x, 0.5), plus(tanh(inner), 1));
};

/** x above 0, alpha (exp(x) - 1) below. exp gets min(x, 0), because it would overflow above. */
function elu(x: Value, alpha: number, gamma = 1): Value {
  const negative = times(plus(exp(minimum(x, constant(x, 0))), -1), alpha);
  return times(add(relu(x), negative), gamma);
}
const attribute = (context: NodeContext, name: string, fallback: number) =>
  floatAttribute(context.attributes, name, fallback);

const hardSigmoid = (x: Value, alpha: number, beta: number) => clip(plus(times(x, alpha), beta), 0, 1);

export const elementwiseRules: Readonly<Record<string, LoweringRule>> = {
  /** float16 is computed in float32, see `readTensor`; types outside `DType` are refused. */
  Cast(context) {
    const to = intAttribute(context.attributes, 'to', 0);
    const dtype = dtypeFromOnnx(to);
    if (!dtype) throw new GraphError(`${context.where}: the type ${to || 'missing'} is not supported`);
    return [cast(valueAt(context, 0), dtype === 'float16' ? 'float32' : dtype)];
  },

  CastLike: (context) => [cast(valueAt(context, 0), operandAt(context, 1).dtype)],

  Clip(context) {
    const x = valueAt(context, 0);
    const [low] = numbersFrom(context, 1, 'min', 'the lower limit') ?? [];
    const [high] = numbersFrom(context, 2, 'max', 'the upper limit') ?? [];
    if (low === undefined) return [high === undefined ? x : apply('Clip', [x, null, constant(x, high)])];
    return [high === undefined ? apply('Clip', [x, constant(x, low)]) : clip(x, low, high)];
  },

  /** The exponent may have another dtype than the base; squares are common. */
  Pow(context) {
    const x = valueAt(context, 0);
    const exponent = operandAt(context, 1);
    const known = knownTensor(exponent);
    if (known?.data.length === 1 && numbersOf(known)[0] === 2 && known.shape.length <= x.shape.length)
      return [square(x)];
    return [pow(x, cast(context.materialise(exponent), x.dtype))];
  },

  /** Exporters write SiLU as x times its sigmoid, which has a cheaper gradient than a product of two tensors. */
  Mul(context) {
    const [a, b] = [valueAt(context, 0), valueAt(context, 1)];
    const isGateOf = (gate: Value, x: Value) => gate.producer?.opType === 'Sigmoid' && gate.producer.inputs[0] === x;
    if (isGateOf(b, a)) return [siluFromGate(a, b)];
    return [isGateOf(a, b) ? siluFromGate(b, a) : mul(a, b)];
  },

  Max: pairwise(maximum),
  Min: pairwise(minimum),
  Sum: pairwise(add),
  Mean: pairwise(add, (x, count) => times(x, 1 / count)),
  ReduceSum: reduction(reduceSum),
  ReduceMean: reduction(reduceMean),
  ReduceMax: reduction(reduceMax),
  ReduceMin: reduction(reduceMin),
  ReduceSumSquare: reduction((x, axes, options) => reduceSum(square(x), axes, options)),
  ReduceL1: reduction((x, axes, options) => reduceSum(abs(x), axes, options)),
  ReduceL2: reduction((x, axes, options) => sqrt(reduceSum(square(x), axes, options))),
  Gelu: onValue(gelu),
  Elu: onValue((x, context) => elu(x, attribute(context, 'alpha', 1))),
  Selu: onValue((x, context) =>
    elu(x, attribute(context, 'alpha', 1.6732632423543772), attribute(context, 'gamma', 1.0507009873554805)),
  ),

  PRelu(context) {
    const [x, slope] = [valueAt(context, 0), valueAt(context, 1)];
    return [where(greater(x, constant(x, 0)), x, mul(x, slope))];
  },

  HardSigmoid: onValue((x, context) =>
    hardSigmoid(x, attribute(context, 'alpha', 0.2), attribute(context, 'beta', 0.5)),
  ),
  HardSwish: onValue((x) => mul(x, hardSigmoid(x, 1 / 6, 0.5))),
  Mish: onValue((x) => mul(x, tanh(softplus(x)))),
  Softsign: onValue((x) => div(x, plus(abs(x), 1))),

  /** x sigmoid(alpha x). */
  'com.microsoft:QuickGelu'(context) {
    const x = valueAt(context, 0);
    return [mul(x, sigmoid(times(x, attribute(context, 'alpha', 1.702))))];
  },
};
