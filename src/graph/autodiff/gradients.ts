import { GradientError } from '../../errors.ts';
import type { Graph, GraphNode, Value } from '../graph.ts';
import { add } from '../ops/elementwise.ts';
import { expandTo } from '../ops/reshape.ts';
import { findOp, scalarLike } from '../registry.ts';
import { elementCount, formatShape, isFloat } from '../types.ts';
import { compositeOf, differentiatedInputs } from './custom-gradient.ts';

/**
 * Adds the backward pass of `loss` (reverse mode, one vector-Jacobian product per node) to its graph and returns
 * dL/d(value) for each of `wrt`, in order and of the same shapes; zeros for a value the loss does not depend on.
 *
 * @throws {GradientError} when the loss is not one float, or when nodes on the way have no gradient rule: one
 * error names all of them.
 * @example
 * const [dW] = gradients(loss, [W]);
 */
export function gradients(loss: Value, wrt: readonly Value[]): Value[] {
  if (!isFloat(loss.dtype) || loss.shape.some((dim) => dim !== 1)) {
    throw new GradientError(
      `the loss must be one float, but '${loss.name}' is ${loss.dtype} ${formatShape(loss.shape)}`,
    );
  }
  const found = backpropagate(loss, expandTo(scalarLike(loss, 1), loss.shape), wrt, visibleNodes(loss.graph));
  return wrt.map((value, index) => found[index] ?? zerosOf(value));
}

/**
 * Adds the backward pass from `output`, whose gradient is `dy`. Returns dL/d(value) for each of `wrt`; undefined for a
 * value that `output` does not depend on.
 *
 * @param nodes those to go back through, in topological order; what they take from others counts as given.
 * @throws {GradientError} as `gradients`.
 */
export function backpropagate(
  output: Value,
  dy: Value,
  wrt: readonly Value[],
  nodes: readonly GraphNode[],
): (Value | undefined)[] {
  const path = nodesBetween(wrt, output, nodes);
  refuseNodesWithoutRule(path.nodes);

  const accumulated = new Map<Value, Value>([[output, dy]]);
  const accumulate = (inputs: readonly (Value | null)[], contributions: readonly (Value | undefined)[]) => {
    inputs.forEach((input, index) => {
      const gradient = contributions[index];
      if (!input || !gradient || !path.values.has(input)) return;
      const previous = accumulated.get(input);
      accumulated.set(input, previous ? add(previous, gradient) : gradient);
    });
  };
  for (const node of path.nodes.toReversed()) {
    const outputGradients = node.outputs.map((output) => accumulated.get(output));
    if (outputGradients.every((gradient) => gradient === undefined)) continue;
    const composite = node.outputs[0] && compositeOf(node.outputs[0]);
    const [gradient] = outputGradients;
    if (composite && gradient) {
      accumulate(composite.inputs, composite.gradient(gradient, path.values));
      continue;
    }
    const contributions = findOp(node.opType, node.domain)?.gradient?.({
      node,
      inputs: node.inputs,
      outputs: node.outputs,
      gradients: outputGradients,
      needed: node.inputs.map((input) => input !== null && path.values.has(input)),
    });
    accumulate(node.inputs, contributions ?? []);
  }
  return wrt.map((value) => accumulated.get(value));
}

/** Those of `candidates` through which `output` depends on `wrt`, and the values along them. */
function nodesBetween(
  wrt: readonly Value[],
  output: Value,
  candidates: readonly GraphNode[],
): { nodes: GraphNode[]; values: Set<Value> } {
  const upstream = ancestorsOf(output, new Set(candidates));
  const values = new Set<Value>(wrt);
  const nodes = candidates.filter((node) => {
    const reached =
      upstream.has(node) && differentiatedInputs(node).some((input) => input !== null && values.has(input));
    if (reached) for (const result of node.outputs) if (isFloat(result.dtype)) values.add(result);
    return reached;
  });
  return { nodes, values };
}

/** The nodes of a graph after those of the graphs around it: a body may use what was computed outside. */
export function visibleNodes(graph: Graph): GraphNode[] {
  return graph.parent ? [...visibleNodes(graph.parent), ...graph.nodes] : graph.nodes;
}

function ancestorsOf(output: Value, among: ReadonlySet<GraphNode>): Set<GraphNode> {
  const found = new Set<GraphNode>();
  const pending = output.producer ? [output.producer] : [];
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (found.has(node) || !among.has(node)) continue;
    found.add(node);
    for (const input of node.inputs) if (input?.producer) pending.push(input.producer);
  }
  return found;
}

/** The nodes through which `output` depends on `wrt` and that have no gradient rule. */
export function nodesWithoutRule(wrt: readonly Value[], output: Value): GraphNode[] {
  return withoutRule(nodesBetween(wrt, output, visibleNodes(output.graph)).nodes);
}

function withoutRule(nodes: readonly GraphNode[]): GraphNode[] {
  return nodes.filter(
    (node) =>
      node.outputs.some((output) => isFloat(output.dtype)) && !findOp(node.opType, node.domain)?.gradient,
  );
}

function refuseNodesWithoutRule(nodes: readonly GraphNode[]): void {
  const without = withoutRule(nodes);
  if (without.length === 0) return;
  const list = without
    .map((node) => `node '${node.name}' (op ${node.domain ? `${node.domain}:` : ''}${node.opType})`)
    .join(', ');
  throw new GradientError(
    `no gradient rule for ${list}: freeze what is behind it, or replace the op by differentiable ones`,
  );
}

function zerosOf(value: Value): Value {
  elementCount(value.shape);
  return expandTo(scalarLike(value, 0), value.shape);
}
