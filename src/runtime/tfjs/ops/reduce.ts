import { intAttribute } from '../../../graph/op-registry.ts';
import { reducedAxes } from '../../../graph/ops/index.ts';
import { contextOf, defineTfOp, given } from '../tf-op.ts';

for (const [opType, method] of [
  ['ReduceSum', 'sum'],
  ['ReduceMean', 'mean'],
] as const)
  defineTfOp(
    opType,
    (node) => {
      const axes = reducedAxes(contextOf(node));
      const keep = intAttribute(node.attributes, 'keepdims', 1) === 1;
      return (tf, inputs) => {
        const x = given(inputs, 0);
        return axes.length === 0 ? x : tf[method](x, axes, keep);
      };
    },
    { tensorInputs: 1 },
  );
