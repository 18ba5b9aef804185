/**
 * From the nodes of an ONNX file to nodes of our ops. Each node is computed now if its inputs are known (`folding.ts`), rewritten by a
 * rule (`layer-rules.ts`, `shape-rules.ts`, `elementwise-rules.ts`), or added as it is.
 */
import { GraphError, OnnxFormatError } from '../../../errors.ts';
import type { Attribute, Graph, GraphNode, Value } from '../../graph.ts';
import { applyOp, findOp, float, int, ints, opName, text } from '../../registry.ts';
import { fixedShape } from '../../types.ts';
import {
  ATTRIBUTE_TYPE,
  type AttributeProto,
  type GraphProto,
  type NodeProto,
  type OnnxProgram,
  plainDomain,
} from '../schema.ts';
import { readTensor } from '../tensors.ts';
import { elementwiseRules } from './elementwise-rules.ts';
import { foldingRules, MAX_FOLDED_ELEMENTS } from './folding.ts';
import { layerRules } from './layer-rules.ts';
import {
  isValue,
  type KnownTensor,
  knownTensor,
  type LoweringRule,
  type NodeContext,
  numbersOf,
  type Operand,
} from './operand.ts';
import { shapeRules } from './shape-rules.ts';

const rules: Readonly<Record<string, LoweringRule>> = { ...shapeRules, ...layerRules, ...elementwiseRules };

/** An ONNX program as part of a graph. */
interface Lowered {
  readonly outputs: readonly Operand[];
  /** From a node of the graph to the node of the file it came from, for errors. */
  readonly origins: ReadonlyMap<GraphNode, string>;
}

/** What a node computes. What depends on an unavailable value is skipped. */
type Entry = Operand | 'unavailable';

/**
 * Adds the nodes of an ONNX program that lead to `outputs` to a graph. Whatever does not depend on the model's inputs is
 * computed now, if a shape may depend on it. The variants of the operator sets become the ops of `src/graph/ops`.
 *
 * @param known what the names of inputs and initializers stand for; a trained initializer is a value of the graph.
 * @throws {OnnxFormatError} that names every node that is not supported, and why; or where the program is malformed.
 */
export function lowerProgram(
  program: OnnxProgram,
  target: Graph,
  known: ReadonlyMap<string, Operand>,
  outputs: readonly string[],
): Lowered {
  const lowering = new Lowering(program.opset, target);
  const names = new Map<string, Entry>(known);
  lowering.addGraph(program.graph, names, outputs);
  lowering.refuseFailures();
  return {
    outputs: outputs.map((name) => {
      const entry = names.get(name);
      if (entry === undefined || entry === 'unavailable')
        throw new OnnxFormatError(`the output '${name}' is computed by no node`);
      return entry;
    }),
    origins: lowering.origins,
  };
}

class Lowering {
  readonly origins = new Map<GraphNode, string>();
  private readonly failures: string[] = [];
  private readonly unknown = new Map<string, string[]>();
  private readonly constants = new Map<KnownTensor['data'], { shape: string; value: Value }[]>();

  constructor(
    private readonly opset: number,
    private readonly target: Graph,
  ) {}

  addGraph(graph: GraphProto, names: Map<string, Entry>, outputs: readonly string[]): void {
    checkDefinitions(graph.node ?? [], names);
    for (const node of neededNodes(graph.node ?? [], outputs)) this.addNode(node, names);
  }

  refuseFailures(): void {
    const unknown = [...this.unknown].map(
      ([op, nodes]) =>
        `op ${op} (${nodes.length === 1 ? `node '${nodes[0]}'` : `${nodes.length} nodes, the first is '${nodes[0]}'`}) is not known`,
    );
    const all = [...unknown.sort(), ...this.failures];
    if (all.length > 0) throw new OnnxFormatError(`the ONNX model uses ops that are not supported: ${all.join('; ')}`);
  }

  private addNode(node: NodeProto, names: Map<string, Entry>): void {
    const where = `node '${node.name || node.output?.find((name) => name !== '') || ''}' (op ${node.opType ?? ''})`;
    const inputs = (node.input ?? []).map((name) => {
      if (name === '') return null;
      const entry = names.get(name);
      if (entry === undefined) throw new OnnxFormatError(`${where}: its input '${name}' does not exist before it`);
      return entry;
    });
    const outputNames = node.output ?? [];
    if (outputNames.length === 0 || outputNames.length > 4096)
      throw new OnnxFormatError(`${where} has ${outputNames.length} outputs`);
    const before = this.target.nodes.length;
    const outputs = this.attempt(node, where, inputs, names);
    outputNames.forEach((name, index) => {
      if (name !== '') names.set(name, outputs?.[index] ?? 'unavailable');
    });
    for (const added of this.target.nodes.slice(before)) this.origins.set(added, where);
  }

  /** Failures are collected, and one error names them all. */
  private attempt(
    node: NodeProto,
    where: string,
    inputs: readonly (Entry | null)[],
    names: Map<string, Entry>,
  ): readonly Operand[] | undefined {
    const operands = inputs.flatMap((entry) => (entry === 'unavailable' ? [] : [entry]));
    if (operands.length < inputs.length) return undefined;
    try {
      const outputs =
        node.opType === 'If' ? this.addBranch(node, where, operands, names) : this.lower(node, where, operands);
      const count = node.output?.length ?? 0;
      if (outputs && outputs.length < count)
        throw new GraphError(`${where} has ${count} outputs, but the op gives ${outputs.length}`);
      return outputs;
    } catch (error) {
      if (!(error instanceof GraphError)) throw error;
      this.failures.push(error.message.startsWith(where) ? error.message : `${where}: ${error.message}`);
      return undefined;
    }
  }

  private lower(node: NodeProto, where: string, inputs: readonly (Operand | null)[]): readonly Operand[] | undefined {
    const domain = plainDomain(node.domain);
    const opType = opName({ opType: node.opType ?? '', domain });
    const rule = own(rules, opType);
    const folding = own(foldingRules, opType);
    const isKnown = rule || folding || (findOp(opType) && opType !== 'Loop');
    if (!isKnown) {
      this.unknown.set(opType, [...(this.unknown.get(opType) ?? []), node.name || (node.output?.[0] ?? '')]);
      return undefined;
    }
    const attributes = Object.fromEntries(
      (node.attribute ?? []).map((attribute) => [attribute.name ?? '', readAttribute(attribute, where)]),
    );
    const context: NodeContext = {
      where,
      opType: node.opType ?? '',
      inputs,
      attributes,
      opset: this.opset,
      outputCount: node.output?.length ?? 0,
      target: this.target,
      materialise: (operand) => this.materialise(operand),
    };
    const tensors = inputs.map((operand) => operand && knownTensor(operand));
    const size = tensors.reduce((sum, tensor) => sum + (tensor?.data.length ?? 0), 0);
    if (folding && size <= MAX_FOLDED_ELEMENTS && tensors.every((tensor) => tensor !== undefined)) {
      const folded = folding(context, tensors);
      if (folded) return folded;
    }
    if (rule) return rule(context);
    return applyOp(
      opType,
      inputs.map((operand) => operand && this.materialise(operand)),
      { attributes, outputCount: context.outputCount, graph: this.target },
    );
  }

  /** When the condition is known, the branch that is taken becomes part of the graph around it. */
  private addBranch(
    node: NodeProto,
    where: string,
    [condition]: readonly (Operand | null)[],
    names: Map<string, Entry>,
  ): readonly Operand[] | undefined {
    const known = condition && knownTensor(condition);
    if (!known) throw new GraphError(`${where}: its condition depends on the model's inputs`);
    const taken = numbersOf(known)[0] ? 'then_branch' : 'else_branch';
    const branch = node.attribute?.find(({ name }) => name === taken)?.g;
    if (!branch) throw new OnnxFormatError(`${where} has no '${taken}'`);
    const inner = new Map(names);
    for (const tensor of branch.initializer ?? [])
      inner.set(tensor.name ?? '', readTensor(tensor, `${where}, initializer '${tensor.name}'`));
    const outputs = (branch.output ?? []).map(({ name = '' }) => name);
    this.addGraph(branch, inner, outputs);
    const entries = outputs.map((name) => inner.get(name));
    const operands = entries.flatMap((entry) => (entry && entry !== 'unavailable' ? [entry] : []));
    return operands.length === entries.length ? operands : undefined;
  }

  private materialise(operand: Operand): Value {
    if (isValue(operand)) return operand;
    // Equal contents in another shape are another constant.
    const shape = operand.shape.join('x');
    const made = this.constants.get(operand.data) ?? [];
    const same = made.find((constant) => constant.shape === shape);
    if (same) return same.value;
    const value = this.target.constant(operand.dtype, fixedShape(operand.shape), operand.data);
    this.constants.set(operand.data, [...made, { shape, value }]);
    return value;
  }
}

function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

/** @throws {OnnxFormatError} when a name is defined twice. */
function checkDefinitions(nodes: readonly NodeProto[], names: ReadonlyMap<string, unknown>): void {
  const defined = new Set(names.keys());
  for (const { output = [] } of nodes) {
    for (const name of output) {
      if (name === '') continue;
      if (defined.has(name)) throw new OnnxFormatError(`the ONNX model defines '${name}' twice`);
      defined.add(name);
    }
  }
}

/** The nodes that lead to the wanted names, with those that branches use, in their order. */
function neededNodes(nodes: readonly NodeProto[], wanted: readonly string[]): NodeProto[] {
  const names = new Set(wanted);
  const needed = nodes.toReversed().filter((node) => {
    const leads = (node.output ?? []).some((name) => names.has(name));
    if (leads) addUses(node, names);
    return leads;
  });
  return needed.toReversed();
}

/** Only a file that was made to do harm nests branches more deeply. */
const MAX_DEPTH = 16;

function addUses(node: NodeProto, names: Set<string>, depth = 0): void {
  if (depth > MAX_DEPTH) throw new OnnxFormatError(`the ONNX model nests more than ${MAX_DEPTH} branches`);
  for (const name of node.input ?? []) names.add(name);
  for (const { g } of node.attribute ?? []) {
    for (const inner of g?.node ?? []) addUses(inner, names, depth + 1);
    for (const { name = '' } of g?.output ?? []) names.add(name);
  }
}

function readAttribute(proto: AttributeProto, where: string): Attribute {
  switch (proto.type) {
    case ATTRIBUTE_TYPE.float:
      return float(proto.f ?? 0);
    case ATTRIBUTE_TYPE.int:
      return int(proto.i ?? 0);
    case ATTRIBUTE_TYPE.string:
      return text(new TextDecoder().decode(proto.s));
    case ATTRIBUTE_TYPE.floats:
      return { kind: 'floats', value: proto.floats ?? [] };
    case ATTRIBUTE_TYPE.ints:
      return ints(proto.ints ?? []);
    case ATTRIBUTE_TYPE.tensor:
      return { kind: 'tensor', value: readTensor(proto.t ?? {}, `${where}, attribute '${proto.name}'`) };
    default:
      throw new GraphError(
        `${where}: attribute '${proto.name}' is of type ${proto.type ?? 'unknown'}, which is not supported`,
      );
  }
}
