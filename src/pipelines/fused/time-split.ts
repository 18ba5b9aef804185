import { GraphError } from '../../errors.ts';
import type { Graph, GraphNode, Value } from '../../graph/graph.ts';
import { cast } from '../../graph/ops/elementwise.ts';
import { applyOp, opName } from '../../graph/registry.ts';
import type { TensorType } from '../../graph/types.ts';

/**
 * A model graph (inputs `sample`, `timestep` and perhaps `class_labels`, output `out_sample`) cut in two: what depends on the
 * timestep alone, such as the time embedding, and what depends on the sample or its class. The first can be computed once for
 * all samples.
 */
export interface TimeSplit {
  /** Values of the timestep's part that the sample's part uses. */
  readonly crossing: readonly Value[];
  /** Adds the timestep's part to `target` and returns the crossing values there. The timestep may be of another type. */
  readonly addTimePart: (target: Graph, timestep: Value) => Value[];
  /** The type of the classes, where the model has any. */
  readonly classLabels: TensorType | undefined;
  /** Adds the sample's part to `target` and returns the model output there. Further calls use the same constants. */
  readonly addSamplePart: (target: Graph, sample: Value, crossing: readonly Value[], classLabels?: Value) => Value;
}

/** @throws {GraphError} when the graph has other inputs or holds nodes with bodies, which are not copied. */
export function splitByTime(model: Graph): TimeSplit {
  const sample = inputNamed(model, 'sample');
  const timestep = inputNamed(model, 'timestep');
  const labels = model.inputs.find(({ name }) => name === 'class_labels');
  const output = model.outputs.find(({ name }) => name === 'out_sample')?.value;
  if (model.inputs.length !== (labels ? 3 : 2) || !output)
    throw new GraphError(
      `graph '${model.name}' must have the inputs 'sample' and 'timestep', perhaps 'class_labels', and the output 'out_sample'`,
    );
  refuseBodies(model);

  const bySample = dependentNodes(model, labels ? [sample, labels] : [sample]);
  const byTime = dependentNodes(model, [timestep]);
  const sampleNodes = model.nodes.filter((node) => bySample.has(node));
  const timeNodes = model.nodes.filter((node) => byTime.has(node) && !bySample.has(node));
  // What depends on neither is cheap or folded away by the runtime: each part gets its own copy.
  const fixedNodes = model.nodes.filter((node) => !byTime.has(node) && !bySample.has(node));

  const timeValues = new Set([timestep, ...timeNodes.flatMap((node) => node.outputs)]);
  const used = new Set([...sampleNodes.flatMap((node) => node.inputs), output]);
  const crossing = [...timeValues].filter((value) => used.has(value));
  const constants = new WeakMap<Graph, Map<Value, Value>>();
  return {
    crossing,
    classLabels: labels,
    addTimePart: (target, at) => {
      const copies = new Map([[timestep, cast(at, timestep.dtype)]]);
      copyNodes(target, copies, neededFor(crossing, [...fixedNodes, ...timeNodes], model.nodes));
      return crossing.map((value) => copyOf(target, copies, value));
    },
    addSamplePart: (target, from, values, classes) => {
      const known = constants.get(target) ?? new Map<Value, Value>();
      constants.set(target, known);
      const copies = new Map([...known, [sample, from]]);
      if (labels && classes) copies.set(labels, classes);
      crossing.forEach((value, index) => {
        const given = values[index];
        if (given) copies.set(value, given);
      });
      copyNodes(target, copies, neededFor([output], [...fixedNodes, ...sampleNodes], model.nodes));
      for (const [value, copy] of copies) if (value.data) known.set(value, copy);
      return copyOf(target, copies, output);
    },
  };
}

function inputNamed(model: Graph, name: string): Value {
  const input = model.inputs.find((value) => value.name === name);
  if (input) return input;
  throw new GraphError(`graph '${model.name}' has no input '${name}'`);
}

function refuseBodies(model: Graph): void {
  for (const node of model.nodes)
    if (Object.values(node.attributes).some(({ kind }) => kind === 'graph'))
      throw new GraphError(`node '${node.name}' (op ${node.opType}) has a body, which cannot be copied`);
}

function dependentNodes(model: Graph, sources: readonly Value[]): Set<GraphNode> {
  const values = new Set<Value | null>(sources);
  const nodes = new Set<GraphNode>();
  for (const node of model.nodes) {
    if (!node.inputs.some((input) => values.has(input))) continue;
    nodes.add(node);
    for (const output of node.outputs) values.add(output);
  }
  return nodes;
}

/** Those of `allowed` that lead to `wanted`, in topological order. */
function neededFor(wanted: readonly Value[], allowed: readonly GraphNode[], order: readonly GraphNode[]): GraphNode[] {
  const candidates = new Set(allowed);
  const values = new Set<Value | null>(wanted);
  const needed = order.toReversed().filter((node) => {
    const leads = candidates.has(node) && node.outputs.some((output) => values.has(output));
    if (leads) for (const input of node.inputs) values.add(input);
    return leads;
  });
  return needed.toReversed();
}

function copyNodes(target: Graph, copies: Map<Value, Value>, nodes: readonly GraphNode[]): void {
  for (const node of nodes) {
    const inputs = node.inputs.map((input) => input && copyOf(target, copies, input));
    const outputs = applyOp(opName(node), inputs, {
      attributes: node.attributes,
      outputCount: node.outputs.length,
      graph: target,
    });
    node.outputs.forEach((output, index) => {
      const copy = outputs[index];
      if (copy) copies.set(output, copy);
    });
  }
}

function copyOf(target: Graph, copies: Map<Value, Value>, value: Value): Value {
  const known = copies.get(value);
  if (known) return known;
  if (!value.data) throw new GraphError(`value '${value.name}' is used before it is computed`);
  const copy = target.constant(value.dtype, value.shape.map(Number), value.data);
  copies.set(value, copy);
  return copy;
}
