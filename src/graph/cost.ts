// What a graph costs, by arithmetic: nothing is run.
import type { Graph, GraphNode, Value } from './graph.ts';
import { bytesPerElement, type Shape } from './types.ts';

/** What one run of a graph costs. */
export interface GraphCost {
  /** Floating-point operations of products and convolutions, of which a multiplication with its addition is two. */
  readonly flops: number;
  /** Nodes that are run. */
  readonly nodes: number;
  /** The most bytes of computed values at a time, without the graph's outputs. */
  readonly workingBytes: number;
}

export interface CostOptions {
  /** The lengths of axes that have a name; default 1. */
  readonly lengths?: Readonly<Record<string, number>> | undefined;
  /**
   * Whether onnxruntime gives values of equal size one buffer, which then stays from the first of them to the last. It does
   * where shapes are declared; see docs/performance.md, "Memory of the step". Default true.
   */
  readonly reusesBuffers?: boolean | undefined;
}

/** Ops that give a tensor another shape or name, in the same memory. */
export const FREE_OPS: ReadonlySet<string> = new Set(['Reshape', 'Unsqueeze', 'Squeeze', 'Identity']);

/** Counts a graph with the bodies of its Loops: every trip where their number is a constant, else one. */
export function graphCost(graph: Graph, { lengths = {}, reusesBuffers = true }: CostOptions = {}): GraphCost {
  const options = { lengths, reusesBuffers };
  const costs = graph.nodes.map((node) => {
    const bodies = bodiesOf(node).map((body) => graphCost(body, options));
    const trips = Number(node.inputs[0]?.data?.[0] ?? 1);
    const sum = (figure: 'flops' | 'nodes') => trips * bodies.reduce((all, body) => all + body[figure], 0);
    return { flops: nodeFlops(node, lengths) + sum('flops'), nodes: 1 + sum('nodes') };
  });
  return {
    flops: costs.reduce((sum, { flops }) => sum + flops, 0),
    nodes: costs.reduce((sum, { nodes }) => sum + nodes, 0),
    workingBytes: workingBytes(graph, options),
  };
}

/** Floating-point operations of a product or a convolution; 0 for other nodes. */
export function nodeFlops(
  { opType, inputs: [a, b], outputs: [y], attributes }: GraphNode,
  lengths: CostOptions['lengths'] = {},
): number {
  if (!a || !b || !y) return 0;
  const count = (shape: Shape) => elements(shape, lengths);
  if (opType === 'Conv') return 2 * count(y.shape) * count(b.shape.slice(1));
  if (opType === 'ConvTranspose') return 2 * count(a.shape) * count(b.shape.slice(1));
  if (opType === 'MatMul') return 2 * count(y.shape) * count(a.shape.slice(-1));
  const inner = attributes.transA?.value === 1 ? a.shape.slice(0, 1) : a.shape.slice(-1);
  return opType === 'Gemm' ? 2 * count(y.shape) * count(inner) : 0;
}

function elements(shape: Shape, lengths: CostOptions['lengths'] = {}): number {
  return shape.reduce<number>((product, axis) => product * (typeof axis === 'number' ? axis : (lengths[axis] ?? 1)), 1);
}

function bodiesOf({ attributes }: GraphNode): Graph[] {
  return Object.values(attributes).flatMap((attribute) => (attribute.kind === 'graph' ? [attribute.value] : []));
}

/** What a node reads, also inside its bodies. */
function readBy(node: GraphNode): Value[] {
  const own = node.inputs.filter((value) => value !== null);
  return [...own, ...bodiesOf(node).flatMap((body) => [...body.nodes.flatMap(readBy), ...resultsOf(body)])];
}

const resultsOf = ({ outputs }: Graph) => outputs.map(({ value }) => value);

/** The outputs, and values that are in their memory under another name. */
function resultMemory(graph: Graph): ReadonlySet<Value> {
  const results = new Set(resultsOf(graph));
  // A set is walked with what is added on the way.
  for (const { producer } of results) {
    const [source] = producer && FREE_OPS.has(producer.opType) ? producer.inputs : [];
    if (source) results.add(source);
  }
  return results;
}

/** Memory that holds one value, and where buffers are reused others after it. */
interface Buffer {
  readonly bytes: number;
  /** Places in the order of the nodes: of the first that writes it, and the last that uses it. */
  readonly first: number;
  last: number;
  /** How often it will still be read. */
  readers: number;
}

function workingBytes(graph: Graph, options: Required<CostOptions>): number {
  const order = runOrder(graph);
  const results = resultMemory(graph);
  const readers = new Map<Value, number>();
  for (const value of order.flatMap(readBy)) readers.set(value, (readers.get(value) ?? 0) + 1);
  const buffers: Buffer[] = [];
  const idle: Buffer[] = [];
  const holders = new Map<Value, Buffer>();
  const take = (bytes: number, first: number): Buffer => {
    const found = idle.findIndex((buffer) => buffer.bytes === bytes);
    const [reused] = found < 0 ? [] : idle.splice(found, 1);
    if (reused) return reused;
    const buffer = { bytes, first, last: first, readers: 0 };
    buffers.push(buffer);
    return buffer;
  };
  order.forEach((node, place) => {
    const written = node.outputs.flatMap((value) => {
      if (results.has(value)) return [];
      const [source] = FREE_OPS.has(node.opType) ? node.inputs : [];
      const bytes = bytesPerElement(value.dtype) * elements(value.shape, options.lengths);
      // An input or a constant under another name takes no memory.
      const buffer = source ? holders.get(source) : take(bytes, place);
      if (!buffer) return [];
      buffer.readers += readers.get(value) ?? 0;
      holders.set(value, buffer);
      return [buffer];
    });
    const read = readBy(node).flatMap((value) => holders.get(value) ?? []);
    for (const buffer of read) buffer.readers--;
    for (const buffer of new Set([...read, ...written])) {
      buffer.last = place;
      if (buffer.readers === 0 && options.reusesBuffers) idle.unshift(buffer);
    }
  });
  const changes = new Float64Array(order.length + 1);
  const change = (place: number, bytes: number) => {
    changes[place] = (changes[place] ?? 0) + bytes;
  };
  for (const { bytes, first, last } of buffers) {
    change(first, bytes);
    change(last + 1, -bytes);
  }
  let held = 0;
  return order.reduce((most, node, place) => {
    held += changes[place] ?? 0;
    const inBodies = bodiesOf(node).reduce((sum, body) => sum + workingBytes(body, options), 0);
    return Math.max(most, held + inBodies);
  }, 0);
}

/**
 * The order in which onnxruntime runs the nodes: depth first, from those that nothing reads back to their inputs
 * (`Graph::ReverseDFSFrom`).
 */
function runOrder(graph: Graph): GraphNode[] {
  const places = new Map(graph.nodes.map((node, place) => [node, place]));
  const read = new Set(graph.nodes.flatMap(readBy));
  const isLeaf = ({ outputs }: GraphNode) => !outputs.some((value) => read.has(value));
  const stack: { readonly node: GraphNode; readonly isEntered: boolean }[] = graph.nodes
    .filter(isLeaf)
    .map((node) => ({ node, isEntered: false }));
  const entered = new Set<GraphNode>();
  const order: GraphNode[] = [];
  for (let next = stack.pop(); next; next = stack.pop()) {
    const { node, isEntered } = next;
    if (isEntered) order.push(node);
    else if (!entered.has(node)) {
      entered.add(node);
      stack.push({ node, isEntered: true });
      const before = readBy(node).flatMap(({ producer }) => (producer && places.has(producer) ? [producer] : []));
      const sorted = [...new Set(before)].sort((a, b) => (places.get(a) ?? 0) - (places.get(b) ?? 0));
      stack.push(...sorted.map((each) => ({ node: each, isEntered: false })));
    }
  }
  return order;
}
