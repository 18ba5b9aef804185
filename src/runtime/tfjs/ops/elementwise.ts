import { GraphError } from '../../../errors.ts';
import { floatAttribute } from '../../../graph/registry.ts';
import type { Tfjs, TfTensor } from '../tf-module.ts';
import { defineTfOp, defineTfOpOfOne, given, outputShape, select, tfDType, withoutGradient } from '../tf-op.ts';

function defineUnary(opType: string, compute: (tf: Tfjs, x: TfTensor) => TfTensor): void {
  defineTfOpOfOne(opType, () => compute);
}
defineUnary('Identity', (_tf, x) => x);
defineUnary('Neg', (tf, x) => tf.neg(x));
defineUnary('Exp', (tf, x) => tf.exp(x));
defineUnary('Log', (tf, x) => tf.log(x));
defineUnary('Sqrt', (tf, x) => tf.sqrt(x));
defineUnary('Reciprocal', (tf, x) => tf.reciprocal(x));
defineUnary('Sin', (tf, x) => tf.sin(x));
defineUnary('Cos', (tf, x) => tf.cos(x));
defineUnary('Tanh', (tf, x) => tf.tanh(x));
defineUnary('Sigmoid', (tf, x) => tf.sigmoid(x));
defineUnary('Relu', (tf, x) => tf.relu(x));
defineUnary('Erf', (tf, x) => tf.erf(x));
defineUnary('Softplus', (tf, x) => tf.softplus(x));
/** Constant between their steps: their gradient is 0. */
for (const [opType, method] of Object.entries({ Floor: 'floor', Ceil: 'ceil', Round: 'round', Sign: 'sign' } as const))
  defineUnary(opType, (tf, x) => withoutGradient(tf, [x], () => tf[method](x)));

/** Not `tf.abs`, whose gradient at 0 is -1. */
defineUnary('Abs', (tf, x) => select(tf, compare(tf, 'less', x, zero(tf)), tf.neg(x), x, x.shape));

defineTfOpOfOne('LeakyRelu', (node) => {
  const alpha = floatAttribute(node.attributes, 'alpha', 0.01);
  return (tf, x) => tf.leakyRelu(x, alpha);
});

/** x sigmoid(alpha x). */
defineTfOpOfOne('com.microsoft:QuickGelu', (node) => {
  const alpha = floatAttribute(node.attributes, 'alpha', 1.702);
  return (tf, x) => tf.mul(x, tf.sigmoid(alpha === 1 ? x : tf.mul(x, alpha)));
});

for (const [opType, method] of Object.entries({ Add: 'add', Sub: 'sub', Mul: 'mul', Pow: 'pow' } as const))
  defineTfOp(opType, () => (tf, inputs) => tf[method](given(inputs, 0), given(inputs, 1)));

defineTfOp('Div', (node) => {
  if (node.outputs[0]?.dtype !== 'float32')
    throw new GraphError(`node '${node.name}': tfjs rounds a quotient of integers down, ONNX towards 0`);
  return (tf, inputs) => tf.div(given(inputs, 0), given(inputs, 1));
});

type Comparison = 'greater' | 'less' | 'equal';
function compare(tf: Tfjs, comparison: Comparison, a: TfTensor, b: TfTensor): TfTensor {
  return withoutGradient(tf, [a, b], () => tf[comparison](a, b));
}
for (const [opType, comparison] of Object.entries({ Greater: 'greater', Less: 'less', Equal: 'equal' } as const))
  defineTfOp(opType, () => (tf, inputs) => compare(tf, comparison, given(inputs, 0), given(inputs, 1)));

/** Where both are equal each gets half of the gradient, as in torch; tfjs's own ops give it all to the first. */
function defineExtremum(opType: string, comparison: Comparison): void {
  defineTfOp(opType, (node) => {
    const shape = outputShape(node);
    return (tf, inputs) => {
      const [a, b] = [given(inputs, 0), given(inputs, 1)];
      const chosen = select(tf, compare(tf, comparison, a, b), a, b, shape);
      const halves = tf.add(tf.mul(a, 0.5), tf.mul(b, 0.5));
      return select(tf, compare(tf, 'equal', a, b), halves, chosen, shape);
    };
  });
}
defineExtremum('Max', 'greater');
defineExtremum('Min', 'less');

defineTfOp('Where', (node) => {
  const shape = outputShape(node);
  return (tf, inputs) => select(tf, given(inputs, 0), given(inputs, 1), given(inputs, 2), shape);
});

/** The gradient passes at the limits, as in torch. */
defineTfOp('Clip', () => (tf, [x, low, high]) => {
  let result = given([x], 0);
  if (low) result = select(tf, compare(tf, 'less', result, low), low, result, result.shape);
  if (high) result = select(tf, compare(tf, 'greater', result, high), high, result, result.shape);
  return result;
});

defineTfOpOfOne('Cast', (node) => {
  const to = node.outputs[0]?.dtype ?? 'float32';
  if (to === 'uint8') throw new GraphError(`node '${node.name}': tfjs has no uint8`);
  const dtype = tfDType(to, `node '${node.name}'`);
  return (tf, x) => (dtype === 'float32' ? tf.cast(x, dtype) : withoutGradient(tf, [x], () => tf.cast(x, dtype)));
});

function zero(tf: Tfjs): TfTensor {
  return tf.zeros([]);
}
