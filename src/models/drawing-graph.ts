import { GraphError } from '../errors.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { elementCount } from '../graph/types.ts';
import { ForwardContext } from '../nn/context.ts';
import { drawingLayout } from '../nn/drawing-layout.ts';
import { shapeIn } from '../nn/layout.ts';
import type { ParameterSpec } from '../nn/parameters.ts';
import { formShape, type WeightForm } from '../nn/weight-forms.ts';
import type { DiffusionModel } from './model.ts';

export { formGraph, type WeightForm } from '../nn/weight-forms.ts';

/** Smaller parameters are constants of the graph: an input costs some microseconds at each run. */
const MAX_CONSTANT = 4096;

/** Of a smaller model the exported graph is as fast. Those that train in the layout `hwnc` are as large. */
const MIN_PARAMETERS = 4_000_000;

/** An input of a drawing graph that takes a parameter. */
export interface DrawingWeight {
  /** Of the input: the same for the same parameter and form in graphs of every batch. */
  readonly name: string;
  readonly parameter: ParameterSpec;
  /** Undefined for a parameter as it is. */
  readonly form: WeightForm | undefined;
  readonly shape: readonly number[];
}

/** The lengths of the inputs of a drawing graph. */
export interface DrawingBatch {
  readonly samples: number;
  /** One for all samples, or one for each. */
  readonly timesteps: number;
}

/**
 * The forward pass for a batch of one size in the layout in which the cpu draws; see `exportModelGraph` for the inputs and
 * the output. Large parameters are further inputs, in the forms that the layout asks for.
 *
 * @param constants what is a constant instead of an input, by its name; all parameters of which `isConstant` is true.
 */
export function drawingGraph(
  model: DiffusionModel,
  constants: ReadonlyMap<string, Float32Array>,
  { samples, timesteps }: DrawingBatch,
): { graph: Graph; weights: DrawingWeight[] } {
  const graph = new Graph(model.config._class_name);
  const sample = graph.input('sample', 'float32', [samples, ...model.sampleShape]);
  const timestep = graph.input('timestep', model.takesFractionalTimesteps ? 'float32' : 'int64', [timesteps]);
  const class_labels = model.classCount === undefined ? undefined : graph.input('class_labels', 'int64', [samples]);

  const values = new Map<string, Value>();
  const weights = new Map<Value, DrawingWeight>();
  const held = (weight: DrawingWeight): Value => {
    const known = values.get(weight.name);
    if (known) return known;
    const data = constants.get(weight.name);
    const value = data
      ? graph.constant('float32', weight.shape, data, weight.name)
      : graph.input(weight.name, 'float32', weight.shape);
    values.set(weight.name, value);
    if (!data) weights.set(value, weight);
    return value;
  };
  const specs = new Map<Value, ParameterSpec>();
  const layout = drawingLayout((parameter, form) => {
    const spec = specs.get(parameter);
    if (!spec) throw new GraphError(`'${parameter.name}' is computed: only a parameter itself can be prepared`);
    return held({ name: `${spec.name}/${form}`, parameter: spec, form, shape: formShape(form, spec.shape) });
  });
  const parameters = model.parameters.map((spec) => {
    // Columns are filters in the order of the layout.
    const form = spec.isFilter ? 'columns' : undefined;
    const value = held({ name: spec.name, parameter: spec, form, shape: shapeIn(layout, spec) });
    specs.set(value, spec);
    return [spec.name, value] as const;
  });
  const context = new ForwardContext(new Map(parameters), { modelName: model.config._class_name, layout });
  graph.output('out_sample', model.forward({ sample, timestep, class_labels }, context));
  // Of most parameters only another form is used.
  const used = new Set(graph.nodes.flatMap((node) => node.inputs));
  for (const value of [...weights.keys()].filter((value) => !used.has(value))) {
    graph.inputs.splice(graph.inputs.indexOf(value), 1);
    weights.delete(value);
  }
  return { graph, weights: [...weights.values()] };
}

/** Whether a model is one that `drawingGraph` takes: large enough to gain, and called with whole class labels at most. */
export function drawsInOwnLayout(model: DiffusionModel): boolean {
  const { parameters, sampleShape, classLabelShape, conditionChannels } = model;
  const size = parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const isPlain = classLabelShape === undefined && conditionChannels === undefined;
  return isPlain && sampleShape.length === 3 && size >= MIN_PARAMETERS;
}

/**
 * Whether a drawing graph always holds the parameter as a constant.
 */
export function isConstant({ shape, isFilter }: ParameterSpec): boolean {
  return !isFilter && elementCount(shape) <= MAX_CONSTANT;
}
