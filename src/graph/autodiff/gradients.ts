/**
 * Reverse-mode differentiation: adds the nodes of the backward pass to a graph, from the loss back to the parameters, by the
 * rules of the ops (`registry.ts`) and of `withGradient` (`custom.ts`).
 */
import { GradientError, GraphError } from '../../errors.ts';
import type { Graph, GraphNode, Value } from '../graph.ts';
import { add } from '../ops/elementwise.ts';
import { sumTo } from '../ops/reduce.ts';
import { expandTo } from '../ops/shape.ts';
import { findOp, GradientContext, type InputGradient, opName, scalarLike } from '../registry.ts';
import { formatType, isFloat, sameShape } from '../types.ts';
import { customRuleOf } from './custom.ts';

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
    throw new GradientError(`the loss must be one float, but '${loss.name}' is ${formatType(loss)}`);
  }
  const found = backpropagate(loss, expandTo(scalarLike(loss, 1), loss.shape), wrt, visibleNodes(loss.graph));
  return wrt.map((value, index) => found[index] ?? expandTo(scalarLike(value, 0), value.shape));
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
  for (const node of path.nodes.toReversed()) {
    const outputGradients = node.outputs.map((output) => accumulated.get(output));
    if (outputGradients.every((gradient) => gradient === undefined)) continue;
    const [inputs, rule] = applyRule(node, outputGradients, path.values);
    const contributions = inputs.map((input, index) =>
      input && path.values.has(input) ? contributionTo(input, rule[index], node) : undefined,
    );
    inputs.forEach((input, index) => {
      const gradient = contributions[index];
      if (!input || !gradient) return;
      const previous = accumulated.get(input);
      accumulated.set(input, previous ? add(previous, gradient) : gradient);
    });
  }
  return wrt.map((value) => accumulated.get(value));
}

/** The values that gradients flow to from a node, and what its rule gives for each. */
function applyRule(
  node: GraphNode,
  gradients: readonly (Value | undefined)[],
  needed: ReadonlySet<Value>,
): [inputs: readonly (Value | null)[], rule: readonly InputGradient[]] {
  const custom = customRuleOf(node);
  const [dy] = gradients;
  if (custom && dy) return [custom.inputs, custom.gradient(dy, needed)];
  const result = findOp(opName(node))?.gradient?.(new GradientContext(node, gradients));
  return [node.inputs, Array.isArray(result) ? result : [result]];
}

/** What a rule gives for an input, summed over the axes along which the input was broadcast. */
function contributionTo(input: Value, gradient: InputGradient, node: GraphNode): Value | undefined {
  const value = typeof gradient === 'function' ? gradient() : gradient;
  if (!value || (value.dtype === input.dtype && sameShape(value.shape, input.shape))) return value;
  try {
    if (value.dtype === input.dtype) return sumTo(value, input.shape);
  } catch (cause) {
    if (!(cause instanceof GraphError)) throw cause;
  }
  throw new GradientError(
    `the gradient rule of op '${opName(node)}' gave ${formatType(value)} for the input '${input.name}', which is ${formatType(input)}`,
  );
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
      upstream.has(node) &&
      (customRuleOf(node)?.inputs ?? node.inputs).some((input) => input !== null && values.has(input));
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
      node.outputs.some((output) => isFloat(output.dtype)) && !customRuleOf(node) && !findOp(opName(node))?.gradient,
  );
}

function refuseNodesWithoutRule(nodes: readonly GraphNode[]): void {
  const without = withoutRule(nodes);
  if (without.length === 0) return;
  const list = without.map((node) => `node '${node.name}' (op ${opName(node)})`).join(', ');
  throw new GradientError(
    `no gradient rule for ${list}: freeze what is behind it, or replace the op by differentiable ones`,
  );
}
