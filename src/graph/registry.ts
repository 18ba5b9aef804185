/**
 * What is known of each op: how it infers its outputs' types, and its gradient. The files of `ops/` define the package's
 * ops with `defineOp`, and users define theirs. `apply` adds a node.
 */
import { GraphError } from '../errors.ts';
import type { Attribute, Attributes, Graph, GraphNode, Value } from './graph.ts';
import { normalizeAxis, type TensorType, toTensorData } from './types.ts';

/** What an op is told of a node when it infers the types of the outputs. */
export class InferenceContext {
  constructor(
    /** The op or the node, to begin an error with: `op 'Add'`. */
    readonly where: string,
    /** An omitted optional input is null. */
    readonly inputs: readonly (Value | null)[],
    /** The attributes of the node, by their ONNX names. */
    readonly attributes: Attributes,
    /** The number of outputs of the node, for ops where it is free. */
    readonly outputCount: number,
  ) {}

  /** The first input. @throws {GraphError} when it is missing. */
  get x(): Value {
    return required(this, 0);
  }
}

/** What an op is told of a node when it adds the node's backward pass. */
export class GradientContext extends InferenceContext {
  constructor(
    /** The node whose backward pass is added. */
    readonly node: GraphNode,
    /** dL/d(output) for each output; undefined where the loss does not depend on it. */
    readonly gradients: readonly (Value | undefined)[],
  ) {
    super(`node '${node.name}'`, node.inputs, node.attributes, node.outputs.length);
  }

  /** The first output. */
  get y(): Value {
    const [output] = this.node.outputs;
    if (output) return output;
    throw new GraphError(`${this.where} has no outputs`);
  }

  /** dL/dy. @throws {GraphError} when the loss depends on other outputs only: a rule for several outputs reads `gradients`. */
  get dy(): Value {
    const [gradient] = this.gradients;
    if (gradient) return gradient;
    throw new GraphError(`${this.where}: the loss depends on other outputs than the first`);
  }
}

/**
 * dL/d(input), of the input's dtype. It may have the shape to which the input was broadcast: it is summed to the input's own. A
 * function is called only when the gradient of that input is needed; undefined stands for no gradient.
 */
export type InputGradient = Value | (() => Value) | undefined;

/** What is known of an ONNX op: the types of its outputs and, if it is differentiable, its vector-Jacobian product. */
export interface OpDefinition {
  /** The op's name in ONNX, as `Elu`. Ops of another domain are named with it: `com.microsoft:FastGelu`. */
  readonly opType: string;
  /**
   * The dtype and shape of each output, or of the only one.
   *
   * @throws {GraphError} when the inputs do not fit.
   */
  infer(context: InferenceContext): TensorType | readonly TensorType[];
  /** dL/d(input) for each input, or of the first input alone. An op without this rule cannot be differentiated. */
  gradient?(context: GradientContext): InputGradient | readonly InputGradient[];
}

const definitions = new Map<string, OpDefinition>();

/**
 * Makes an ONNX op known: `apply` adds nodes of it, `gradients` differentiates them and `readOnnx` reads them. onnxruntime
 * must have a kernel for the op on the device that runs the graph. The engine `tfjs` knows the package's own ops only.
 * Call this once for each op, at the top level of a module.
 *
 * @throws {GraphError} when the op is defined already.
 * @example
 * defineOp({
 *   opType: 'Elu',
 *   infer: ({ x }) => x,
 *   gradient: ({ x, y, dy }) => where(greater(x, scalarLike(x, 0)), dy, mul(dy, add(y, scalarLike(y, 1)))),
 * });
 * export const elu = (x: Value) => apply('Elu', [x], { alpha: float(1) });
 */
export function defineOp(definition: OpDefinition): void {
  const { opType } = definition;
  const known = definitions.get(opType);
  if (known === definition) return;
  if (known)
    throw new GraphError(
      `op '${opType}' is defined already, by this package or by another call of defineOp: use the existing one, with apply('${opType}', ...)`,
    );
  definitions.set(opType, definition);
}

/** The name under which a node's op is defined. */
export function opName({ opType, domain }: Pick<GraphNode, 'opType' | 'domain'>): string {
  return domain === '' ? opType : `${domain}:${opType}`;
}

export function findOp(name: string): OpDefinition | undefined {
  return definitions.get(name);
}

/** Every op that is defined. */
export function registeredOps(): OpDefinition[] {
  return [...definitions.values()];
}

/** Options of `applyOp`. */
export interface ApplyOptions {
  /** Default none. */
  readonly attributes?: Attributes;
  /** The number of outputs; default 1. */
  readonly outputCount?: number;
  /** The graph that the node goes into; default the innermost graph of the inputs. */
  readonly graph?: Graph;
}

/**
 * Adds a node of an op and returns its outputs.
 *
 * @param name the op's name; of another domain than ONNX's own, `domain:opType`.
 * @param inputs null for an optional input that is left out.
 * @throws {GraphError} when the op is not defined, or the inputs do not fit it.
 * @example
 * const [largest, where] = applyOp('MaxPool', [x], { attributes: { kernel_shape: ints([2, 2]) }, outputCount: 2 });
 */
export function applyOp(
  name: string,
  inputs: readonly (Value | null)[],
  { attributes = {}, outputCount = 1, graph = innermostGraph(name, inputs) }: ApplyOptions = {},
): Value[] {
  const definition = findOp(name);
  if (!definition) throw new GraphError(`op '${name}' is not known to this package: define it with defineOp`);
  const types = [definition.infer(new InferenceContext(`op '${name}'`, inputs, attributes, outputCount))].flat();
  const [opType = name, domain] = name.split(':').toReversed();
  return [...graph.addNode(opType, inputs, attributes, types, domain).outputs];
}

/**
 * Adds a node of an op with one output, and returns that.
 *
 * @throws {GraphError} as `applyOp`.
 * @example
 * const y = apply('LeakyRelu', [x], { alpha: float(0.2) });
 */
export function apply(name: string, inputs: readonly (Value | null)[], attributes: Attributes = {}): Value {
  const [output] = applyOp(name, inputs, { attributes });
  if (!output) throw new GraphError(`op '${name}' has no output`);
  return output;
}

/** An integer attribute of a node. */
export const int = (value: number): Attribute => ({ kind: 'int', value });
/** An attribute of several integers. */
export const ints = (value: readonly number[]): Attribute => ({ kind: 'ints', value });
/** A float32 attribute. */
export const float = (value: number): Attribute => ({ kind: 'float', value });
/** An attribute of text. */
export const text = (value: string): Attribute => ({ kind: 'string', value });

/** The integer attribute `name`, or `fallback` where the node has none. */
export function intAttribute(attributes: Attributes, name: string, fallback: number): number {
  const attribute = attributes[name];
  return attribute?.kind === 'int' ? attribute.value : fallback;
}

/** The attribute `axis` of a node, or `fallback`, as an index from 0. @throws {GraphError} where it is out of range. */
export function axisAttribute(
  { attributes, where }: Pick<InferenceContext, 'attributes' | 'where'>,
  rank: number,
  fallback = 0,
): number {
  return normalizeAxis(intAttribute(attributes, 'axis', fallback), rank, where);
}

/** The attribute of integers `name`; undefined where the node has none. */
export function intsAttribute(attributes: Attributes, name: string): readonly number[] | undefined {
  const attribute = attributes[name];
  return attribute?.kind === 'ints' ? attribute.value : undefined;
}

/** The float attribute `name`, or `fallback` where the node has none. */
export function floatAttribute(attributes: Attributes, name: string, fallback: number): number {
  const attribute = attributes[name];
  return attribute?.kind === 'float' ? attribute.value : fallback;
}

/** The text attribute `name`, or `fallback` where the node has none. */
export function textAttribute(attributes: Attributes, name: string, fallback: string): string {
  const attribute = attributes[name];
  return attribute?.kind === 'string' ? attribute.value : fallback;
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

/** A constant int64 vector in the graph of `like`, as Reshape and Slice take it. */
export function int64Vector(like: Value, values: readonly number[]): Value {
  return like.graph.constant('int64', [values.length], toTensorData('int64', values));
}

/** The input at `index`. @throws {GraphError} where it is missing. */
export function required({ where, inputs }: Pick<InferenceContext, 'where' | 'inputs'>, index: number): Value {
  const input = inputs[index];
  if (input) return input;
  throw new GraphError(`${where}: input ${index} is missing`);
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

function innermostGraph(name: string, inputs: readonly (Value | null)[]): Graph {
  let innermost: Graph | undefined;
  for (const input of inputs) {
    if (input && (!innermost || input.graph.depth > innermost.depth)) innermost = input.graph;
  }
  if (!innermost) throw new GraphError(`op '${name}' has no inputs and needs the option 'graph'`);
  return innermost;
}
