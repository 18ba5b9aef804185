import { intAttribute, intsAttribute } from '../../registry.ts';
import { broadcastShapes, type DType, dtypeFromOnnx, elementCount, normalizeAxis } from '../../types.ts';
import { broadcastIndex, type FoldingRule, type KnownTensor, numbersOf, pick, tensorOf } from './operand.ts';
import { shapeFolding } from './shape-folding.ts';

/** Tensors with more elements are left to the runtime, or refused where the graph needs to know them. */
export const MAX_FOLDED_ELEMENTS = 2 ** 22;

const roundHalfEven = (x: number) => {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
};

function unary(op: (x: number) => number, result?: DType): FoldingRule {
  return (_context, [x]) => (x ? [tensorOf(result ?? x.dtype, x.shape, numbersOf(x).map(op))] : undefined);
}

function binary(op: (a: number, b: number, integer: boolean) => number, result?: DType): FoldingRule {
  return (context, inputs) => {
    const [first, ...rest] = inputs;
    if (!first || rest.some((input) => !input)) return undefined;
    return [rest.reduce<KnownTensor>((a, b) => (b ? pair(context.where, op, a, b, result) : a), first)];
  };
}

function pair(
  where: string,
  op: (a: number, b: number, integer: boolean) => number,
  a: KnownTensor,
  b: KnownTensor,
  result: DType | undefined,
): KnownTensor {
  const shape = broadcastShapes(a.shape, b.shape, where).map(Number);
  const left = numbersOf(pick(a, shape, broadcastIndex(a)));
  const right = numbersOf(pick(b, shape, broadcastIndex(b)));
  const integer = a.dtype !== 'float32' && a.dtype !== 'float64';
  return tensorOf(
    result ?? a.dtype,
    shape,
    left.map((x, i) => op(x, right[i] ?? 0, integer)),
  );
}

const truth = (test: (a: number, b: number) => boolean) => binary((a, b) => (test(a, b) ? 1 : 0), 'bool');

const reduction =
  (op: (values: number[]) => number): FoldingRule =>
  (context, [x, axesInput]) => {
    if (!x) return undefined;
    const given = axesInput ? numbersOf(axesInput) : (intsAttribute(context.attributes, 'axes') ?? []);
    const axes = given.map((axis) => normalizeAxis(axis, x.shape.length, context.where));
    const reduces = (axis: number) => axes.length === 0 || axes.includes(axis);
    const kept = x.shape.map((dim, axis) => (reduces(axis) ? 1 : dim));
    const groups = Array.from({ length: elementCount(kept) }, (): number[] => []);
    const numbers = tensorOf('int32', kept, [...groups.keys()]);
    const groupOf = numbersOf(pick(numbers, x.shape, broadcastIndex(numbers)));
    numbersOf(x).forEach((value, i) => {
      groups[groupOf[i] ?? 0]?.push(value);
    });
    const keepdims = intAttribute(context.attributes, 'keepdims', 1) !== 0;
    const shape = keepdims ? kept : x.shape.filter((_, axis) => !reduces(axis));
    return [tensorOf(x.dtype, shape, groups.map(op))];
  };

/** The nodes that exporters compute shapes, positions and tables with. */
export const foldingRules: Readonly<Record<string, FoldingRule>> = {
  ...shapeFolding,
  Neg: unary((x) => -x),
  Abs: unary(Math.abs),
  Sqrt: unary(Math.sqrt),
  Exp: unary(Math.exp),
  Log: unary(Math.log),
  Sin: unary(Math.sin),
  Cos: unary(Math.cos),
  Floor: unary(Math.floor),
  Ceil: unary(Math.ceil),
  Round: unary(roundHalfEven),
  Sign: unary(Math.sign),
  Reciprocal: unary((x) => 1 / x),
  Not: unary((x) => (x ? 0 : 1), 'bool'),
  Add: binary((a, b) => a + b),
  Sub: binary((a, b) => a - b),
  Mul: binary((a, b) => a * b),
  Div: binary((a, b, integer) => (integer ? Math.trunc(a / b) : a / b)),
  Pow: binary((a, b) => a ** b),
  Min: binary((a, b) => Math.min(a, b)),
  Max: binary((a, b) => Math.max(a, b)),

  Mod(context, inputs) {
    const keepsSign = intAttribute(context.attributes, 'fmod', 0) === 1;
    const op = (a: number, b: number) => (keepsSign ? a % b : a - Math.floor(a / b) * b);
    return binary(op)(context, inputs);
  },

  Equal: truth((a, b) => a === b),
  Less: truth((a, b) => a < b),
  LessOrEqual: truth((a, b) => a <= b),
  Greater: truth((a, b) => a > b),
  GreaterOrEqual: truth((a, b) => a >= b),
  And: truth((a, b) => a !== 0 && b !== 0),
  Or: truth((a, b) => a !== 0 || b !== 0),
  Xor: truth((a, b) => (a !== 0) !== (b !== 0)),

  Where({ where }, [condition, a, b]) {
    if (!condition || !a || !b) return undefined;
    const values = broadcastShapes(a.shape, b.shape, where);
    const shape = broadcastShapes(condition.shape, values, where).map(Number);
    const [chosen, left, right] = [condition, a, b].map((x) => numbersOf(pick(x, shape, broadcastIndex(x))));
    return [tensorOf(a.dtype, shape, chosen?.map((yes, i) => (yes ? left?.[i] : right?.[i]) ?? 0) ?? [])];
  },

  Cast({ attributes }, [x]) {
    const dtype = dtypeFromOnnx(intAttribute(attributes, 'to', 0));
    return x && dtype && dtype !== 'float16' ? [tensorOf(dtype, x.shape, numbersOf(x))] : undefined;
  },

  ReduceProd: reduction((values) => values.reduce((a, b) => a * b, 1)),
  ReduceSum: reduction((values) => values.reduce((a, b) => a + b, 0)),
  ReduceMax: reduction((values) => values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)),
  ReduceMin: reduction((values) => values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)),
};
