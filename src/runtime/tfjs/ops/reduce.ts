import { reducedAxes } from '../../../graph/ops/reduce.ts';
import { axisAttribute, intAttribute } from '../../../graph/registry.ts';
import type { Tfjs, TfTensor } from '../tf-module.ts';
import { contextOf, defineTfOpOfOne, given, outputShape } from '../tf-op.ts';

for (const [opType, method] of Object.entries({ ReduceSum: 'sum', ReduceMean: 'mean' } as const))
  defineTfOpOfOne(opType, (node) => {
    const axes = reducedAxes(contextOf(node));
    const keep = intAttribute(node.attributes, 'keepdims', 1) === 1;
    return (tf, x) => (axes.length === 0 ? x : tf[method](x, axes, keep));
  });

for (const [opType, method] of Object.entries({ ReduceMax: 'max', ReduceMin: 'min' } as const))
  defineTfOpOfOne(opType, (node) => {
    const axes = reducedAxes(contextOf(node));
    const shape = outputShape(node);
    return (tf, x) => {
      if (axes.length === 0) return x;
      const kept = x.dtype === 'float32' ? extremum(tf, x, method, axes) : tf[method](x, axes, true);
      return tf.reshape(kept, shape);
    };
  });

defineTfOpOfOne('ArgMin', (node) => {
  const context = contextOf(node);
  const axis = axisAttribute(context, context.x.shape.length);
  const shape = outputShape(node);
  // A function of no inputs: tfjs would look for a gradient between indices and what they were computed from.
  return (tf, x) => tf.customGrad(() => ({ value: tf.reshape(tf.argMin(x, axis), shape), gradFunc: () => [] }))();
});

/** Where several elements are the extremum they share the gradient; in tfjs's own each would get all of it. */
function extremum(tf: Tfjs, x: TfTensor, method: 'max' | 'min', axes: number[]): TfTensor {
  return tf.customGrad((input: TfTensor, save: (tensors: TfTensor[]) => void) => {
    const value = tf[method](input, axes, true);
    save([input, value]);
    return {
      value,
      gradFunc: (dy: TfTensor, saved: TfTensor[]) => {
        const isChosen = tf.cast(tf.equal(given(saved, 0), given(saved, 1)), 'float32');
        return [tf.mul(isChosen, tf.div(dy, tf.sum(isChosen, axes, true)))];
      },
    };
  })(x);
}
