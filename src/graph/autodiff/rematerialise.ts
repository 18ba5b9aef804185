import type { Graph, GraphNode, Value } from '../graph.ts';
import { type DropoutNumbers, identity, withDropoutNumbers } from '../ops/index.ts';
import { withGradient } from './custom-gradient.ts';
import { after } from './evaluation-order.ts';
import { backpropagate, visibleNodes } from './gradients.ts';

const segmented = new WeakMap<Graph, { readonly recompute: boolean }>();

/**
 * Says how `checkpoint` treats the gradients of this graph: with `recompute` it computes its segments again in the backward
 * pass, without it keeps them. Both add up the same numbers in the same order, so that their results are equal bit for bit.
 * In all other graphs `checkpoint` only calls its function.
 */
export function segmentGradients(graph: Graph, options: { readonly recompute: boolean }): void {
  segmented.set(graph, options);
}

/**
 * Gradient checkpointing (Chen et al. 2016): what `build` computes from `inputs` on the way to its result is not kept for
 * the backward pass, but computed again there from `inputs`. See `segmentGradients`.
 *
 * @param build adds the same nodes at every call; it may use other values of the graph, such as parameters, which are
 * kept. Nothing else may use what is between.
 * @param inputs what is kept: the values that all large ones inside are computed from.
 * @example
 * const hidden = checkpoint((x) => block.forward(x, parameters), [x]);
 */
export function checkpoint(
  build: (...inputs: Value[]) => Value,
  inputs: readonly [Value, ...Value[]],
): Value {
  const { graph } = inputs[0];
  const options = segmented.get(graph);
  if (!options) return build(...inputs);
  const segment = recordSegment(graph, build, inputs);
  // A value of its own, because the result may have a gradient rule already.
  const output = identity(segment.output);
  return withGradient(output, segment.outside, (dy, needed) => {
    const wanted = segment.outside.filter((value) => needed.has(value));
    const found = options.recompute
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
  /** What the nodes use, but do not compute: the inputs, parameters and the like. */
  readonly outside: readonly Value[];
  /** The random integers of the dropouts inside, in order. */
  readonly drawn: readonly Value[];
}

function recordSegment(graph: Graph, build: Segment['build'], inputs: readonly Value[]): Segment {
  const drawn: Value[] = [];
  const record = (length: number, draw: DropoutNumbers) => {
    const value = draw(length);
    drawn.push(value);
    return value;
  };
  const { result: output, nodes } = withAddedNodes(graph, () =>
    withDropoutNumbers(graph, record, () => build(...inputs)),
  );
  const inside = new Set(nodes.flatMap(({ outputs }) => outputs));
  const used = new Set(nodes.flatMap((node) => node.inputs.filter((input) => input !== null)));
  const outside = [...used].filter((value) => !inside.has(value) && value.data === undefined);
  return { build, inputs, nodes, output, outside, drawn };
}

/** With the nodes that `build` adds: in a Loop, a parameter's reshape goes to the graph around it, where the parameter is. */
function withAddedNodes<T>(graph: Graph, build: () => T): { result: T; nodes: GraphNode[] } {
  const before = new Set(visibleNodes(graph));
  const result = build();
  return { result, nodes: visibleNodes(graph).filter((node) => !before.has(node)) };
}

/** Gradients through a second copy of the segment, which onnxruntime runs no earlier than `dy` is there. */
function gradientsOfCopy(
  { build, inputs, output, drawn }: Segment,
  dy: Value,
  wanted: readonly Value[],
): (Value | undefined)[] {
  const { graph } = output;
  const delayed = inputs.map((input) => after(input, [dy]));
  const replay = drawn.values();
  const { result: again, nodes } = withAddedNodes(graph, () =>
    withDropoutNumbers(
      graph,
      (length, draw) => replay.next().value ?? draw(length),
      () => build(...delayed),
    ),
  );
  const variables = wanted.map((value) => delayed[inputs.indexOf(value)] ?? value);
  const found = backpropagate(again, dy, variables, nodes);
  // onnxruntime would go down the chain of input gradients first, and keep every copy for its parameters' gradients.
  const others = found.filter((gradient, i) => gradient && !inputs.includes(wanted[i] as Value)) as Value[];
  return found.map((gradient, i) =>
    gradient && inputs.includes(wanted[i] as Value) ? after(gradient, others) : gradient,
  );
}
