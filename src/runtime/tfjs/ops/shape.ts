import { GraphError } from '../../../errors.ts';
import { constantIntegers, intAttribute, intsAttribute } from '../../../graph/registry.ts';
import { normalizeAxis } from '../../../graph/types.ts';
import type { TfTensor } from '../tf-module.ts';
import { constantTensor, contextOf, defineTfOp, expand, given, inputShape, outputShape } from '../tf-op.ts';

for (const opType of ['Reshape', 'Unsqueeze', 'Squeeze'])
  defineTfOp(
    opType,
    (node) => {
      const shape = outputShape(node);
      return (tf, inputs) => tf.reshape(given(inputs, 0), shape);
    },
    { tensorInputs: 1 },
  );

defineTfOp(
  'Expand',
  (node) => {
    const shape = outputShape(node);
    return (tf, inputs) => expand(tf, given(inputs, 0), shape);
  },
  { tensorInputs: 1 },
);

defineTfOp('Transpose', (node) => {
  const rank = inputShape(node).length;
  const perm = intsAttribute(node.attributes, 'perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  return (tf, inputs) => tf.transpose(given(inputs, 0), [...perm]);
});

defineTfOp('Concat', (node) => {
  const axis = normalizeAxis(intAttribute(node.attributes, 'axis', 0), inputShape(node).length, node.name);
  return (tf, inputs) =>
    tf.concat(
      inputs.filter((input): input is TfTensor => input !== undefined),
      axis,
    );
});

/** Copies side by side along one axis after another: the gradient of `tf.tile` ends at rank 4. */
defineTfOp(
  'Tile',
  (node) => {
    const repeats = constantIntegers(contextOf(node), 1, 'the repeats');
    return (tf, inputs) =>
      repeats.reduce(
        (x, count, axis) => (count === 1 ? x : tf.concat(Array<TfTensor>(count).fill(x), axis)),
        given(inputs, 0),
      );
  },
  { tensorInputs: 1 },
);

defineTfOp(
  'Split',
  (node) => {
    const axis = normalizeAxis(intAttribute(node.attributes, 'axis', 0), inputShape(node).length, node.name);
    const sizes = node.outputs.map((_, index) => outputShape(node, index)[axis] ?? 0);
    return (tf, inputs) => tf.split(given(inputs, 0), sizes, axis);
  },
  { tensorInputs: 1 },
);

defineTfOp('Constant', (node) => {
  const attribute = node.attributes.value;
  const [output] = node.outputs;
  if (attribute?.kind !== 'tensor' || !output)
    throw new GraphError(`node '${node.name}': only the attribute 'value' with a tensor is supported`);
  const constant = { ...output, data: attribute.value.data };
  return (tf) => constantTensor(tf, constant);
});
