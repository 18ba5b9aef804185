import { GraphError } from '../../../errors.ts';
import type { Value } from '../../../graph/graph.ts';
import { sliceRanges } from '../../../graph/ops/indexing.ts';
import { axisAttribute, constantIntegers } from '../../../graph/registry.ts';
import type { Tfjs, TfTensor } from '../tf-module.ts';
import { contextOf, defineTfOp, defineTfOpOfOne, given, inputShape, padOrCrop, select } from '../tf-op.ts';

/** ONNX counts negative indices from the end, tfjs refuses them. */
defineTfOp('Gather', (node) => {
  const shape = inputShape(node);
  const axis = axisAttribute(contextOf(node), shape.length);
  const length = shape[axis] ?? 0;
  const isChosen = axis === 0 && isArgMin(node.inputs[1]);
  return (tf, inputs) => {
    const indices = given(inputs, 1);
    const negative = tf.less(indices, tf.tensor(Int32Array.of(0), [], 'int32'));
    const fromEnd = tf.add(indices, tf.tensor(Int32Array.of(length), [], 'int32'));
    const positions = select(tf, negative, fromEnd, indices, indices.shape);
    const data = given(inputs, 0);
    return isChosen ? rowsAt(tf, data, positions) : tf.gather(data, positions, axis);
  };
});

/** Whether a value holds the positions of smallest elements, in whatever shape. */
function isArgMin(value: Value | null | undefined): boolean {
  const { producer } = value ?? {};
  return producer !== undefined && (producer.opType === 'ArgMin' || isArgMin(producer.inputs[0]));
}

/** Rows of a float table. tfjs's own gather wants to differentiate by positions that depend on parameters. */
function rowsAt(tf: Tfjs, data: TfTensor, positions: TfTensor): TfTensor {
  const count = positions.shape.reduce((product, length) => product * length, 1);
  const [rows = 1, ...row] = data.shape;
  const gathered = tf.customGrad((table: TfTensor, save: (tensors: TfTensor[]) => void) => {
    save([positions]);
    return {
      value: tf.gather(table, positions, 0),
      gradFunc: (dy: TfTensor, saved: TfTensor[]) => [
        tf.unsortedSegmentSum(tf.reshape(dy, [count, ...row]), tf.reshape(given(saved, 0), [count]), rows),
      ],
    };
  });
  return gathered(data);
}

/** tfjs has no gradient for slices with steps: those are gathered. */
defineTfOpOfOne('Slice', (node) => {
  const shape = inputShape(node);
  const ranges = sliceRanges(contextOf(node));
  const begin = shape.map(() => 0);
  const size = [...shape];
  for (const { axis, start, step, length } of ranges) if (step === 1) [begin[axis], size[axis]] = [start, length];
  const stepped = ranges
    .filter(({ step }) => step !== 1)
    .map(({ axis, start, step, length }) => ({
      axis,
      positions: Int32Array.from({ length }, (_, i) => start + i * step),
    }));
  const cuts = size.some((length, axis) => length !== shape[axis]);
  return (tf, x) =>
    stepped.reduce(
      (result, { axis, positions }) => tf.gather(result, tf.tensor(positions, [positions.length], 'int32'), axis),
      cuts ? tf.slice(x, begin, size) : x,
    );
});

defineTfOpOfOne('Pad', (node) => {
  const rank = inputShape(node).length;
  const counts = constantIntegers(contextOf(node), 1, 'the pads');
  const pads = Array.from({ length: rank }, (_, axis) => [counts[axis] ?? 0, counts[axis + rank] ?? 0] as const);
  const fill = node.inputs[2];
  if (fill && !fill.data) throw new GraphError(`node '${node.name}': the padding must be a constant`);
  const value = Number(fill?.data?.[0] ?? 0);
  return (tf, x) => padOrCrop(tf, x, pads, value);
});
