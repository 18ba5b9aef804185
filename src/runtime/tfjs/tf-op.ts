import type { GraphNode } from '../../graph/graph.ts';
import { InferenceContext, opName } from '../../graph/registry.ts';
import { fixedShape } from '../../graph/types.ts';
import type { Tfjs, TfTensor } from './tf-module.ts';

/** Computes a node's outputs from its inputs; an omitted optional input is undefined. */
export type TfKernel = (tf: Tfjs, inputs: readonly (TfTensor | undefined)[]) => TfTensor | TfTensor[];

export interface TfOp {
  /** Reads what is fixed about a node once. @throws {GraphError} for what tfjs cannot compute or differentiate. */
  compile(node: GraphNode): TfKernel;
  /** So many leading inputs are tensors; those after them are constants that `compile` reads. */
  readonly tensorInputs: number;
}

const ops = new Map<string, TfOp>();

/** Registers how tfjs computes an ONNX op; ops outside ONNX's own domain as `domain:opType`. */
export function defineTfOp(
  opType: string,
  compile: (node: GraphNode) => TfKernel,
  { tensorInputs = Number.POSITIVE_INFINITY }: { tensorInputs?: number } = {},
): void {
  ops.set(opType, { compile, tensorInputs });
}

export function findTfOp(node: GraphNode): TfOp | undefined {
  return ops.get(opName(node));
}

/** What the helpers of src/graph/ops take to read a node's attributes and constant inputs. */
export function contextOf(node: GraphNode): InferenceContext {
  return new InferenceContext(`node '${node.name}'`, node.inputs, node.attributes, node.outputs.length);
}

/** The shape of a node's output, known because training graphs have a fixed batch size. */
export function outputShape(node: GraphNode, index = 0): number[] {
  return fixedShape(node.outputs[index]?.shape ?? []);
}

/** The shape of a node's input. */
export function inputShape(node: GraphNode, index = 0): number[] {
  return fixedShape(node.inputs[index]?.shape ?? []);
}

/** The input at `index`, which graph construction has checked to be there. */
export function given(inputs: readonly (TfTensor | undefined)[], index: number): TfTensor {
  const input = inputs[index];
  if (input) return input;
  throw new RangeError(`input ${index} of a node is missing`);
}
