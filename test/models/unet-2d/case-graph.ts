import type { NamedTensor } from '../../../src/files/safetensors.ts';
import { gradients } from '../../../src/graph/autodiff/gradients.ts';
import { Graph, type GraphTarget, type Value } from '../../../src/graph/graph.ts';
import { cast, identity, split } from '../../../src/graph/ops/index.ts';
import { isoLoss, simpleLoss } from '../../../src/losses/index.ts';
import type { UNet2DModel } from '../../../src/models/index.ts';
import { ForwardContext } from '../../../src/nn/context.ts';
import type { Layout } from '../../../src/nn/layout.ts';
import type { ParameterSpec } from '../../../src/nn/parameters.ts';
import { hostTensor, type TensorMap } from '../../../src/runtime/session.ts';

/** The tensors of a fixture's `case.safetensors`, by name. */
export type CaseTensors = ReadonlyMap<string, NamedTensor>;

const shapeOf = (given: CaseTensors, name = 'sample') => given.get(name)?.shape ?? [];
const floats = (given: CaseTensors, name: string) => Float32Array.from(given.get(name)?.data ?? [], Number);

/**
 * A U-Net on the inputs of a fixture with its iso loss: the outputs `output`, `loss`, and `d_NAME` for the gradient of each
 * parameter.
 *
 * @param parameterIn the value of a parameter, as a constant or an input.
 */
export function caseGraph(
  model: UNet2DModel,
  given: CaseTensors,
  lambda: number,
  parameterIn: (graph: Graph, spec: ParameterSpec) => Value,
  { layout, target }: { readonly layout?: Layout | undefined; readonly target?: GraphTarget | undefined } = {},
): Graph {
  const shape = shapeOf(given);
  const [batch = 0] = shape;
  const graph = new Graph('case', undefined, target);
  // What a model is given beside a sample lies behind it in the fixture.
  const input = graph.input('sample', 'float32', shape);
  const { conditionChannels = 0 } = model;
  const [sample = input, condition] =
    conditionChannels > 0 ? split(input, [Number(shape[1]) - conditionChannels, conditionChannels], 1) : [input];
  const noise = graph.input('noise', 'float32', shapeOf(given, 'noise'));
  const labels = shapeOf(given, 'class_labels');
  const class_labels = labels.length > 0 ? graph.input('class_labels', 'float32', labels) : undefined;
  const timestep = cast(
    graph.input('timestep', 'float32', [batch]),
    model.takesFractionalTimesteps ? 'float32' : 'int32',
  );
  const parameters = new Map(model.parameters.map((spec) => [spec.name, parameterIn(graph, spec)]));
  const output = model.forward(
    { sample, timestep, class_labels, condition },
    new ForwardContext(parameters, { layout }),
  );
  const { loss } = isoLoss({ lambda, base: simpleLoss() })({
    modelOutput: output,
    epsilon: noise,
    noisySample: sample,
    cleanSample: sample,
    alphaCumprod: graph.constant('float32', [batch, 1, 1, 1], new Float32Array(batch).fill(0.5)),
    predictionType: 'epsilon',
  });
  graph.output('output', identity(output));
  graph.output('loss', identity(loss));
  const found = gradients(loss, [...parameters.values()]);
  [...parameters.keys()].forEach((name, i) => {
    graph.output(`d_${name}`, identity(found[i] as Value));
  });
  return graph;
}

/** The inputs of a fixture. */
export function caseFeeds(given: CaseTensors): TensorMap {
  const shape = shapeOf(given);
  return {
    sample: hostTensor('float32', shape, floats(given, 'sample')),
    noise: hostTensor('float32', shapeOf(given, 'noise'), floats(given, 'noise')),
    timestep: hostTensor('float32', shape.slice(0, 1), floats(given, 'timestep')),
    ...(given.has('class_labels')
      ? { class_labels: hostTensor('float32', shapeOf(given, 'class_labels'), floats(given, 'class_labels')) }
      : {}),
  };
}
