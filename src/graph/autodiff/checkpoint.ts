import type { Graph, GraphNode, Value } from '../graph.ts';
import { identity } from '../ops/elementwise.ts';
import { withGradient } from './custom.ts';
import { backpropagate, visibleNodes } from './gradients.ts';
import { orderedAfter } from './recompute.ts';

/**
 * Gradient checkpointing (Chen et al. 2016): what `build` computes from `inputs` on the way to its result is not kept for
 * the backward pass, but computed again there from `inputs`.
 *
 * @param build adds the same nodes at every call; it may use other values of the graph, such as parameters, which are
 * kept. Nothing outside may use its intermediate values.
 * @param inputs what is kept: the values that all large ones inside are computed from.
 * @param options.recompute false keeps the intermediate values after all. Both settings add up the same numbers in the
 * same order, so their gradients are equal bit for bit. Default true.
 * @example
 * const hidden = checkpoint((x) => tanh(matmul(x, weight)), [x]);
 */
export function checkpoint(
  build: (...inputs: Value[]) => Value,
  inputs: readonly [Value, ...Value[]],
  { recompute = true }: { readonly recompute?: boolean | undefined } = {},
): Value {
  const segment = recordSegment(inputs[0].graph, build, inputs);
  // A value of its own, because the result may have a gradient rule already.
  const output = identity(segment.output);
  return withGradient(output, segment.outside, (dy, needed) => {
    const wanted = segment.outside.filter((value) => needed.has(value));
    const found = recompute
      ? gradientsOfCopy(segment, dy, wanted)
      : backpropagate(segment.output, dy, wanted, segment.nodes);
    return segment.outside.map((value) => found[wanted.indexOf(value)]);
  });
}

interface Segment {
  readonly build: (...inputs: Value[]) => Value;
  readonly inputs: readonly Value[];
  readonly nodes: readonly GraphNode[];
  readonly output: Value;
  /** What the nodes use but do not compute, such as the inputs and parameters. */
  readonly outside: readonly Value[];
}

function recordSegment(graph: Graph, build: Segment['build'], inputs: readonly Value[]): Segment {
  const { result: output, nodes } = withAddedNodes(graph, () => build(...inputs));
  const inside = new Set(nodes.flatMap(({ outputs }) => outputs));
  const used = new Set(nodes.flatMap((node) => node.inputs.filter((input) => input !== null)));
  const outside = [...used].filter((value) => !inside.has(value) && value.data === undefined);
  return { build, inputs, nodes, output, outside };
}

/** With the nodes that `build` adds: in a Loop, a parameter's reshape goes to the graph around it, where the parameter is. */
function withAddedNodes<T>(graph: Graph, build: () => T): { result: T; nodes: GraphNode[] } {
  const before = new Set(visibleNodes(graph));
  const result = build();
  return { result, nodes: visibleNodes(graph).filter((node) => !before.has(node)) };
}

/** Gradients through a second copy of the segment, which onnxruntime runs no earlier than `dy` is there. */
function gradientsOfCopy(
  { build, inputs, output }: Segment,
  dy: Value,
  wanted: readonly Value[],
): (Value | undefined)[] {
  const delayed = inputs.map((input) => orderedAfter(input, [dy]));
  const { result: again, nodes } = withAddedNodes(output.graph, () => build(...delayed));
  const variables = wanted.map((value) => delayed[inputs.indexOf(value)] ?? value);
  const found = backpropagate(again, dy, variables, nodes);
  // onnxruntime would go down the chain of input gradients first, and keep every copy for its parameters' gradients.
  const others = found.filter((gradient, i) => gradient && !inputs.includes(wanted[i] as Value)) as Value[];
  return found.map((gradient, i) =>
    gradient && inputs.includes(wanted[i] as Value) ? orderedAfter(gradient, others) : gradient,
  );
}
