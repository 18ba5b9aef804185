import { GraphError } from '../../../errors.ts';
import { axisAttribute, constantIntegers, intsAttribute } from '../../../graph/registry.ts';
import type { TfTensor } from '../tf-module.ts';
import { constantTensor, contextOf, defineTfOp, defineTfOpOfOne, expand, inputShape, outputShape } from '../tf-op.ts';

for (const opType of ['Reshape', 'Unsqueeze', 'Squeeze'])
  defineTfOpOfOne(opType, (node) => {
    const shape = outputShape(node);
    return (tf, x) => tf.reshape(x, shape);
  });

defineTfOpOfOne('Expand', (node) => {
  const shape = outputShape(node);
  return (tf, x) => expand(tf, x, shape);
});

defineTfOpOfOne('Transpose', (node) => {
  const rank = inputShape(node).length;
  const perm = intsAttribute(node.attributes, 'perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  return (tf, x) => tf.transpose(x, [...perm]);
});

defineTfOp('Concat', (node) => {
  const axis = axisAttribute(contextOf(node), inputShape(node).length);
  return (tf, inputs) =>
    tf.concat(
      inputs.filter((input): input is TfTensor => input !== undefined),
      axis,
    );
});

/** Copies side by side along one axis after another: the gradient of `tf.tile` ends at rank 4. */
defineTfOpOfOne('Tile', (node) => {
  const repeats = constantIntegers(contextOf(node), 1, 'the repeats');
  return (tf, x) =>
    repeats.reduce((tiled, count, axis) => (count === 1 ? tiled : tf.concat(Array(count).fill(tiled), axis)), x);
});

defineTfOpOfOne('Split', (node) => {
  const axis = axisAttribute(contextOf(node), inputShape(node).length);
  const sizes = node.outputs.map((_, index) => outputShape(node, index)[axis] ?? 0);
  return (tf, x) => tf.split(x, sizes, axis);
});

defineTfOp('Constant', (node) => {
  const attribute = node.attributes.value;
  const [output] = node.outputs;
  if (attribute?.kind !== 'tensor' || !output)
    throw new GraphError(`node '${node.name}': only the attribute 'value' with a tensor is supported`);
  const constant = { ...output, data: attribute.value.data };
  return (tf) => constantTensor(tf, constant);
});
