import { GraphError } from '../../errors.ts';
import type { Graph, Value } from '../graph.ts';
import { ONNX_DATA_TYPE } from '../types.ts';
import type { GraphProto, ModelProto, NodeProto } from './schema.ts';
import { modelProto } from './write.ts';

/** A graph as two models that run one after the other. */
export interface CutModel {
  /** Computes the output that the graph was cut at, and the values that `after` needs of it. */
  readonly before: ModelProto;
  /** Takes those values as inputs under their names, and computes the other outputs. */
  readonly after: ModelProto;
  readonly between: readonly Value[];
}

/**
 * Cuts a graph behind one of its outputs, so that something can be done with it before the rest runs. What the output does
 * not need comes after the cut.
 *
 * @param options as of `modelProto`.
 */
export function cutModel(graph: Graph, output: string, options: Parameters<typeof modelProto>[2] = {}): CutModel {
  const { graph: whole = {}, ...model } = modelProto(graph, {}, options);
  const { node: nodes = [], output: outputs = [], input = [] } = whole;
  const first = nodesFor(nodes, output);
  const later = nodes.filter((node) => !first.has(node));
  const laterOutputs = outputs.filter(({ name }) => name !== output);
  const made = new Set([...first].flatMap((node) => node.output ?? []));
  const taken = new Set([...later.flatMap(inputsOf), ...laterOutputs.map(({ name = '' }) => name)]);
  const between = valuesOf(
    graph,
    [...taken].filter((name) => made.has(name)),
  );
  const infos = between.map(({ name, dtype, shape }) => ({
    name,
    type: {
      tensorType: { elemType: ONNX_DATA_TYPE[dtype], shape: { dim: shape.map((dim) => ({ dimValue: Number(dim) })) } },
    },
  }));
  const ownOutput = outputs.filter(({ name }) => name === output);
  const before = { ...whole, node: [...first], output: [...ownOutput, ...infos] };
  const after = { ...whole, node: later, input: [...input, ...infos], output: laterOutputs };
  return {
    before: { ...model, graph: withoutUnused(before) },
    after: { ...model, graph: withoutUnused(after) },
    between,
  };
}

/** The nodes that an output needs, in their order. */
function nodesFor(nodes: readonly NodeProto[], output: string): Set<NodeProto> {
  const needed = new Set([output]);
  const found = nodes.toReversed().filter((node) => {
    if (!node.output?.some((name) => needed.has(name))) return false;
    for (const name of inputsOf(node)) needed.add(name);
    return true;
  });
  return new Set(found.toReversed());
}

/** What a node takes, also inside its bodies. */
function inputsOf({ input = [], attribute = [] }: NodeProto): string[] {
  return [...input, ...attribute.flatMap(({ g }) => (g ? usedIn(g) : []))];
}

function usedIn({ node = [], output = [] }: GraphProto): string[] {
  return [...node.flatMap(inputsOf), ...output.map(({ name = '' }) => name)];
}

/** The values of a graph by the names that they are written under. */
function valuesOf(graph: Graph, names: readonly string[]): Value[] {
  const byName = new Map(graph.nodes.flatMap(({ outputs }) => outputs).map((value) => [value.name, value]));
  return names.map((name) => {
    const value = byName.get(name);
    if (value) return value;
    throw new GraphError(`graph '${graph.name}' cannot be cut: '${name}' is an output and is used after the cut too`);
  });
}

/** Inputs and constants that nothing of the part takes are left out: a session would ask for them. */
function withoutUnused(graph: GraphProto): GraphProto {
  const used = new Set(usedIn(graph));
  const isUsed = ({ name = '' }) => used.has(name);
  return {
    ...graph,
    input: (graph.input ?? []).filter(isUsed),
    initializer: (graph.initializer ?? []).filter(isUsed),
  };
}
