/**
 * Everything that is computed is a graph of ONNX nodes: models, losses, their gradients and the optimizer. A graph is built by
 * ops (`ops/`), extended by the backward pass (`autodiff/`), and written to and read from files (`onnx/`).
 */
import { GraphError } from '../errors.ts';
import {
  type DType,
  elementCount,
  fixedShape,
  formatShape,
  holds,
  type Shape,
  type TensorData,
  type TensorType,
} from './types.ts';

/** An ONNX attribute. ONNX tells integers from floats, JavaScript does not: hence the `kind`. */
export type Attribute =
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'tensor'; readonly value: TensorType & { readonly data: TensorData } }
  | { readonly kind: 'graph'; readonly value: Graph };
/** The attributes of a node, by their ONNX names. Make them with `int`, `ints`, `float` and `text`. */
export type Attributes = Readonly<Record<string, Attribute>>;

/**
 * Where a graph is going to run, for rules that have a form for it: cuda, or `any` device. A graph of either kind gives the
 * same everywhere, up to rounding.
 */
export type GraphTarget = 'any' | 'cuda';

/** One tensor in a graph, with its dtype and shape. It holds numbers only where it is a constant. */
export interface Value extends TensorType {
  /** Its name in the ONNX file, unique in the graph. */
  readonly name: string;
  /** The graph that it belongs to. */
  readonly graph: Graph;
  /** The node that computes the value; undefined for inputs and constants. */
  readonly producer: GraphNode | undefined;
  /** The contents, where the value is a constant and they are in memory. */
  readonly data: TensorData | undefined;
}

/** One operation. */
export interface GraphNode {
  /** Unique in the graph. */
  readonly name: string;
  /** The op's name in its domain: `Add`. */
  readonly opType: string;
  /** Empty for ONNX's own ops. */
  readonly domain: string;
  /** An optional input that is left out is null. */
  readonly inputs: readonly (Value | null)[];
  /** By their ONNX names. */
  readonly attributes: Attributes;
  /** The values that it computes. */
  readonly outputs: readonly Value[];
}

/**
 * A computation as ONNX nodes with static shapes and dtypes. Ops (`src/graph/ops`) add nodes; a node can only use
 * values that exist, so `nodes` is always in topological order.
 *
 * @example
 * const graph = new Graph('double');
 * const x = graph.input('x', 'float32', ['batch_size', 2]);
 * graph.output('y', add(x, x));
 */
export class Graph {
  /** In topological order. */
  readonly nodes: GraphNode[] = [];
  /** In the order in which they were declared. */
  readonly inputs: Value[] = [];
  /** In the order in which they were declared. */
  readonly outputs: {
    /** Its name in the ONNX file. */
    readonly name: string;
    /** What it gives. */
    readonly value: Value;
  }[] = [];
  /** The tensors that are part of the graph: the initializers of the ONNX file. */
  readonly constants: Value[] = [];
  private readonly names: Map<string, number>;
  private readonly sharedConstants = new Map<string, Value>();
  private readonly reserved = new Set<string>();

  /**
   * @param parent the enclosing graph, for the body of a Loop: its values may be used here.
   * @param target default that of the parent, or `any`.
   */
  constructor(
    /** Its name in the ONNX file. */
    readonly name: string,
    readonly parent?: Graph,
    readonly target: GraphTarget = parent?.target ?? 'any',
  ) {
    // Names are unique over a graph and all bodies inside it: in ONNX a body must not shadow outer names.
    this.names = parent ? parent.names : new Map();
  }

  /** Keeps these names for outputs: no other value gets them. */
  reserveNames(names: readonly string[]): void {
    for (const name of names) this.reserved.add(name);
  }

  /** Declares an input. An axis may be a name, for a length that is known only when the graph runs. @throws {GraphError} when the name is taken. */
  input(name: string, dtype: DType, shape: Shape): Value {
    const value = this.value(this.claimName(name), dtype, shape);
    this.inputs.push(value);
    return value;
  }

  /** Declares `value` as the output `name`. @throws {GraphError} when the name is taken. */
  output(name: string, value: Value): void {
    if (this.outputs.some((output) => output.name === name)) {
      throw new GraphError(`graph '${this.name}' already has an output '${name}'`);
    }
    if (name !== value.name) this.claimName(name);
    this.outputs.push({ name, value });
  }

  /**
   * A constant tensor, row-major. Small constants without a name are kept once for equal contents.
   *
   * @param name how the constant is called in the ONNX file; if the name is taken, it gets a number.
   * @throws {GraphError} when `data` does not hold `dtype` or does not fill `shape`.
   */
  constant(dtype: DType, shape: readonly number[], data: TensorData, name?: string): Value {
    if (!holds(dtype, data) || data.length !== elementCount(shape)) {
      throw new GraphError(
        `constant '${name ?? dtype}' of shape ${formatShape(shape)} got ${data.constructor.name} of ${data.length} elements`,
      );
    }
    if (name !== undefined) return this.addConstant(this.nameLike(name), dtype, shape, data);
    if (data.length > 16) return this.addConstant(this.freshName('constant'), dtype, shape, data);
    const key = `${dtype}/${shape.join('x')}/${contentsKey(data)}`;
    const known = this.findSharedConstant(key);
    if (known) return known;
    const value = this.addConstant(this.freshName('constant'), dtype, shape, data);
    this.sharedConstants.set(key, value);
    return value;
  }

  /**
   * A large constant that many nodes use: made at the first call with a key, and found by the next ones.
   *
   * @param key what tells it from the other constants that are kept so.
   * @throws {GraphError} as `constant`.
   */
  constantOnce(key: string, make: () => TensorType & { readonly data: TensorData }): Value {
    const known = this.findSharedConstant(key);
    if (known) return known;
    const { dtype, shape, data } = make();
    const value = this.constant(dtype, fixedShape(shape), data);
    this.sharedConstants.set(key, value);
    return value;
  }

  /**
   * A constant whose contents are not in memory: whoever writes the graph says in which file they lie.
   *
   * @param name as in `constant`.
   */
  storedConstant(dtype: DType, shape: readonly number[], name: string): Value {
    return this.addConstant(this.nameLike(name), dtype, shape, undefined);
  }

  /**
   * Adds a node with outputs of the given types. Ops call this with the types that they inferred: see `apply`.
   *
   * @throws {GraphError} when an input belongs to a graph that this one is not part of.
   */
  addNode(
    opType: string,
    inputs: readonly (Value | null)[],
    attributes: Attributes,
    types: readonly TensorType[],
    domain = '',
  ): GraphNode {
    for (const input of inputs) {
      if (input && !this.sees(input)) {
        throw new GraphError(
          `${opType}: input '${input.name}' belongs to graph '${input.graph.name}', which '${this.name}' cannot see`,
        );
      }
    }
    const name = this.freshName(opType);
    const outputs: Value[] = [];
    const node: GraphNode = { name, opType, domain, inputs, attributes, outputs };
    types.forEach(({ dtype, shape }, index) => {
      const outputName = this.freshName(types.length > 1 ? `${name}_${index}` : `${name}_out`);
      outputs.push({ name: outputName, dtype, shape, graph: this, producer: node, data: undefined });
    });
    this.nodes.push(node);
    return node;
  }

  /** Whether a node of this graph may use `value`: it belongs to this graph or to an enclosing one. */
  sees(value: Value): boolean {
    for (let graph: Graph | undefined = this; graph; graph = graph.parent) {
      if (value.graph === graph) return true;
    }
    return false;
  }

  /** How many graphs enclose this one. */
  get depth(): number {
    return this.parent ? this.parent.depth + 1 : 0;
  }

  private addConstant(name: string, dtype: DType, shape: readonly number[], data: TensorData | undefined): Value {
    const value: Value = { name, dtype, shape, graph: this, producer: undefined, data };
    this.constants.push(value);
    return value;
  }

  private findSharedConstant(key: string): Value | undefined {
    return this.sharedConstants.get(key) ?? this.parent?.findSharedConstant(key);
  }

  private value(name: string, dtype: DType, shape: Shape): Value {
    return { name, dtype, shape, graph: this, producer: undefined, data: undefined };
  }

  private claimName(name: string): string {
    if (this.names.has(name)) throw new GraphError(`graph '${this.name}' already has a value '${name}'`);
    this.names.set(name, 0);
    return name;
  }

  /** `name` itself where it is free. */
  private nameLike(name: string): string {
    return this.names.has(name) || this.reserved.has(name) ? this.freshName(name) : this.claimName(name);
  }

  private freshName(stem: string): string {
    for (;;) {
      const count = (this.names.get(`#${stem}`) ?? 0) + 1;
      this.names.set(`#${stem}`, count);
      const name = `${stem}_${count}`;
      if (!this.names.has(name) && !this.reserved.has(name)) return this.claimName(name);
    }
  }
}

function contentsKey(data: TensorData): string {
  return Array.from<number | bigint, string>(data, (x) => (Object.is(x, -0) ? '-0' : String(x))).join(',');
}
