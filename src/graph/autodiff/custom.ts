import type { GraphNode, Value } from '../graph.ts';

/**
 * From dL/d(output) to dL/d(input) for each input that `withGradient` was given; undefined where there is none. Only those of
 * `needed` are used.
 */
export type CustomGradient = (dy: Value, needed: ReadonlySet<Value>) => readonly (Value | undefined)[];

interface CustomRule {
  readonly inputs: readonly Value[];
  readonly gradient: CustomGradient;
}

const rules = new WeakMap<Value, CustomRule>();

/**
 * Gives `output`, which several nodes compute from `inputs`, a gradient rule of its own, for example one that is cheaper than
 * the chain of the nodes' rules. The nodes between are then not differentiated, so nothing else may use what they compute.
 * A copy of the nodes in another graph, such as a model that is exported and opened again, is differentiated by the nodes' own rules.
 *
 * @returns `output` itself.
 * @example
 * // log(1 + exp(x)), whose gradient by the chain is exp(x) / (1 + exp(x)): NaN for a large x.
 * const y = withGradient(log(add(exp(x), one)), [x], (dy) => [mul(dy, sigmoid(x))]);
 */
export function withGradient(output: Value, inputs: readonly Value[], gradient: CustomGradient): Value {
  rules.set(output, { inputs, gradient });
  return output;
}

/** The rule that `withGradient` gave to the node's output. */
export function customRuleOf({ outputs: [output] }: GraphNode): CustomRule | undefined {
  return output && rules.get(output);
}

/** Whether `node` is one of `stopGradient`. */
export function stopsGradient(node: GraphNode): boolean {
  return customRuleOf(node)?.inputs.length === 0;
}
