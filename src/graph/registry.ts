import { GraphError } from '../errors.ts';
import type { Attributes, Graph, GraphNode, Value } from './graph.ts';
import { type TensorType, toTensorData } from './types.ts';

export interface InferenceContext {
  /** `op 'Add'` and the like, to begin an error with. */
  readonly where: string;
  readonly inputs: readonly (Value | null)[];
  readonly attributes: Attributes;
  /** The number of outputs the node has, for ops where it is free. */
  readonly outputCount: number;
}

export interface GradientContext {
  readonly node: GraphNode;
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly Value[];
  /** dL/d(output), undefined where the loss does not depend on that output. */
  readonly gradients: readonly (Value | undefined)[];
  /** For each input, whether its gradient is wanted. */
  readonly needed: readonly boolean[];
}

/** What is known of an ONNX op: its output types and, where it is differentiable, its vector-Jacobian product. */
export interface OpDefinition {
  readonly opType: string;
  infer(context: InferenceContext): TensorType[];
  /** dL/d(input) for each input; undefined for inputs that are not needed or not differentiable. */
  gradient?(context: GradientContext): (Value | undefined)[];
}

const definitions = new Map<string, OpDefinition>();

/** Registers an op. Ops outside ONNX's own domain are registered as `domain:opType`. */
export function defineOp(definition: OpDefinition): void {
  if (definitions.has(definition.opType)) throw new GraphError(`op '${definition.opType}' is defined twice`);
  definitions.set(definition.opType, definition);
}

export function findOp(opType: string, domain = ''): OpDefinition | undefined {
  return definitions.get(domain === '' ? opType : `${domain}:${opType}`);
}

/** Every op this package knows. */
export function registeredOps(): OpDefinition[] {
  return [...definitions.values()];
}

export interface ApplyOptions {
  readonly attributes?: Attributes;
  readonly outputCount?: number;
  readonly domain?: string | undefined;
  readonly outputNames?: readonly string[] | undefined;
  /** The graph the node goes into; default: the innermost graph of the inputs. */
  readonly graph?: Graph;
}

/** Adds a node of a registered op with inferred output types. @throws {GraphError} when the inputs do not fit. */
export function applyOp(
  opType: string,
  inputs: readonly (Value | null)[],
  options: ApplyOptions = {},
): Value[] {
  const { attributes = {}, outputCount = 1, domain = '', outputNames } = options;
  const definition = findOp(opType, domain);
  if (!definition)
    throw new GraphError(`op '${domain ? `${domain}:` : ''}${opType}' is not known to this package`);
  const graph = options.graph ?? innermostGraph(opType, inputs);
  const types = definition.infer({ where: `op '${opType}'`, inputs, attributes, outputCount });
  return [...graph.addNode(opType, inputs, attributes, types, { domain, outputNames }).outputs];
}

/** `applyOp` for ops of one output. */
export function apply(opType: string, inputs: readonly (Value | null)[], attributes: Attributes = {}): Value {
  const [output] = applyOp(opType, inputs, { attributes });
  if (!output) throw new GraphError(`op '${opType}' has no output`);
  return output;
}

/**
 * A constant scalar of the dtype of `like`, in its graph.
 *
 * @param name how the constant is called in the ONNX file; default: a number.
 * @example
 * const weighted = mul(penalty, scalarLike(penalty, 0.3, 'lambda'));
 */
export function scalarLike(like: Value, value: number, name?: string): Value {
  return like.graph.constant(like.dtype, [], toTensorData(like.dtype, [value]), name);
}

/** A constant int64 vector in the graph of `like`, as Reshape, Slice and the like take it. */
export function int64Vector(like: Value, values: readonly number[]): Value {
  return like.graph.constant('int64', [values.length], toTensorData('int64', values));
}

/** The input at `index`. @throws {GraphError} where it is missing. */
export function required(
  context: { readonly where?: string; readonly inputs: readonly (Value | null)[] },
  index: number,
): Value {
  const input = context.inputs[index];
  if (input) return input;
  throw new GraphError(`${context.where ?? 'an op'}: input ${index} is missing`);
}

/** The contents of a constant integer input. @throws {GraphError} where it is not a constant. */
export function constantIntegers(context: InferenceContext, index: number, what: string): number[] {
  const input = required(context, index);
  const constant = resolveConstant(input);
  if (!constant) throw new GraphError(`${context.where}: ${what} must be a constant, but is '${input.name}'`);
  return Array.from(constant, Number);
}

function resolveConstant(value: Value) {
  if (value.data) return value.data;
  const attribute = value.producer?.opType === 'Constant' ? value.producer.attributes.value : undefined;
  return attribute?.kind === 'tensor' ? attribute.value.data : undefined;
}

export function intAttribute(attributes: Attributes, name: string, fallback: number): number {
  const attribute = attributes[name];
  return attribute?.kind === 'int' ? attribute.value : fallback;
}

export function floatAttribute(attributes: Attributes, name: string, fallback: number): number {
  const attribute = attributes[name];
  return attribute?.kind === 'float' ? attribute.value : fallback;
}

export function intsAttribute(attributes: Attributes, name: string): readonly number[] | undefined {
  const attribute = attributes[name];
  return attribute?.kind === 'ints' ? attribute.value : undefined;
}

function innermostGraph(opType: string, inputs: readonly (Value | null)[]): Graph {
  let innermost: Graph | undefined;
  for (const input of inputs) {
    if (input && (!innermost || input.graph.depth > innermost.depth)) innermost = input.graph;
  }
  if (!innermost) throw new GraphError(`op '${opType}' has no inputs and needs the option 'graph'`);
  return innermost;
}
