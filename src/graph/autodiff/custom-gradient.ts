import type { GraphNode, Value } from '../graph.ts';

/**
 * From dL/d(output) to dL/d(input) for each input of a composite; undefined where there is none. Only those of `needed` are
 * used.
 */
export type CompositeGradient = (dy: Value, needed: ReadonlySet<Value>) => readonly (Value | undefined)[];

export interface Composite {
  readonly inputs: readonly Value[];
  readonly gradient: CompositeGradient;
}

const composites = new WeakMap<Value, Composite>();

/**
 * Gives a value that several nodes compute from `inputs` a gradient of its own, where the chain of the nodes' rules
 * would cost more. The nodes between are then not differentiated, so nothing else may use what they compute. The rule
 * must equal the chain: a copy of the nodes in another graph is differentiated by their own rules.
 */
export function withGradient(output: Value, inputs: readonly Value[], gradient: CompositeGradient): Value {
  composites.set(output, { inputs, gradient });
  return output;
}

export function compositeOf(output: Value): Composite | undefined {
  return composites.get(output);
}

/** Whether `node` passes no gradient on, as that of `stopGradient`. */
export function stopsGradient({ outputs: [output] }: GraphNode): boolean {
  return output !== undefined && compositeOf(output)?.inputs.length === 0;
}

/** The values that gradients of `node` flow to. */
export function differentiatedInputs(node: GraphNode): readonly (Value | null)[] {
  const [output] = node.outputs;
  return (output && compositeOf(output)?.inputs) ?? node.inputs;
}
