import { floatAttribute, intAttribute } from '../../../graph/registry.ts';
import { defineTfOp, expand, given, outputShape } from '../tf-op.ts';

/** The leading axes are broadcast beforehand: tfjs broadcasts them too, but not in the gradient. */
defineTfOp('MatMul', (node) => {
  const leading = outputShape(node).slice(0, -2);
  return (tf, inputs) => {
    const [a, b] = [given(inputs, 0), given(inputs, 1)];
    return tf.matMul(
      expand(tf, a, [...leading, ...a.shape.slice(-2)]),
      expand(tf, b, [...leading, ...b.shape.slice(-2)]),
    );
  };
});

defineTfOp('Gemm', (node) => {
  const alpha = floatAttribute(node.attributes, 'alpha', 1);
  const beta = floatAttribute(node.attributes, 'beta', 1);
  const transA = intAttribute(node.attributes, 'transA', 0) === 1;
  const transB = intAttribute(node.attributes, 'transB', 0) === 1;
  return (tf, inputs) => {
    const product = tf.matMul(given(inputs, 0), given(inputs, 1), transA, transB);
    const scaled = alpha === 1 ? product : tf.mul(product, alpha);
    const c = inputs[2];
    if (!c) return scaled;
    return tf.add(scaled, beta === 1 ? c : tf.mul(c, beta));
  };
});
