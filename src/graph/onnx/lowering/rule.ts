import { GraphError } from '../../../errors.ts';
import type { Attributes, Graph, Value } from '../../graph.ts';
import { type KnownTensor, knownTensor, numbersOf, type Operand } from './operand.ts';

/** One node of an ONNX file, with what its inputs stand for. */
export interface NodeContext {
  /** `op 'Pad'`, to begin an error with. */
  readonly where: string;
  readonly opType: string;
  readonly inputs: readonly (Operand | null)[];
  readonly attributes: Attributes;
  /** The operator set by which the node is to be understood. */
  readonly opset: number;
  readonly outputCount: number;
  /** The graph that nodes are added to. */
  readonly target: Graph;
  /** The operand as a value of `target`; a known tensor becomes a constant there. */
  materialise(operand: Operand): Value;
}

/** Says a node of some operator set by the ops of `src/graph/ops`, which follow opset 18. */
export type LoweringRule = (context: NodeContext) => readonly Operand[];

/** Computes a node whose inputs are known; undefined where it is left to the runtime. */
export type FoldingRule = (
  context: NodeContext,
  inputs: readonly (KnownTensor | null)[],
) => KnownTensor[] | undefined;

/** @throws {GraphError} where the input is missing. */
export function operandAt(context: NodeContext, index: number): Operand {
  const operand = context.inputs[index];
  if (operand) return operand;
  throw new GraphError(`${context.where}: input ${index} is missing`);
}

/** Input `index` as a value of the target graph. */
export function valueAt(context: NodeContext, index: number): Value {
  return context.materialise(operandAt(context, index));
}

export function optionalValueAt(context: NodeContext, index: number): Value | undefined {
  const operand = context.inputs[index];
  return operand ? context.materialise(operand) : undefined;
}

/** The numbers of an optional input; undefined where it is left out. @throws {GraphError} where they are not known. */
export function numbersAt(context: NodeContext, index: number, what: string): number[] | undefined {
  const operand = context.inputs[index];
  if (!operand) return undefined;
  const known = knownTensor(operand);
  if (known) return numbersOf(known);
  throw new GraphError(`${context.where}: ${what} must not depend on the model's inputs`);
}

/** An input that older operator sets have as an attribute. */
export function numbersFrom(
  context: NodeContext,
  index: number,
  attribute: string,
  what: string,
): number[] | undefined {
  const given = context.attributes[attribute];
  if (given?.kind === 'ints' || given?.kind === 'floats') return [...given.value];
  if (given?.kind === 'int' || given?.kind === 'float') return [given.value];
  return numbersAt(context, index, what);
}

/** The shape of an operand of which no axis is symbolic. */
export function fixedShapeOf(context: NodeContext, operand: Operand): number[] {
  if (operand.shape.every((dim) => typeof dim === 'number')) return operand.shape.map(Number);
  throw new GraphError(
    `${context.where}: the shape [${operand.shape.join(', ')}] of its input must be known here`,
  );
}
