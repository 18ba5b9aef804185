import { GraphError } from '../../errors.ts';
import { stopsGradient } from '../../graph/autodiff/custom.ts';
import type { GraphNode, Value } from '../../graph/graph.ts';
import { opName } from '../../graph/registry.ts';
import { disposeAll, type Tfjs, type TfTensor } from './tf-module.ts';
import { constantTensor, findTfOp, given, type TfKernel, tfDType, withoutGradient } from './tf-op.ts';
import './ops/conv.ts';
import './ops/elementwise.ts';
import './ops/indexing.ts';
import './ops/matmul.ts';
import './ops/normalization.ts';
import './ops/pooling.ts';
import './ops/reduce.ts';
import './ops/shape.ts';

interface Step {
  readonly node: GraphNode;
  /** What the kernel takes; constants that were read at compile time are left out. */
  readonly inputs: readonly (Value | undefined)[];
  readonly kernel: TfKernel;
}

/**
 * Computes values of a graph with the ops of tfjs, which can differentiate through it.
 *
 * @example
 * const interpreter = GraphInterpreter.compile(tf, [loss]);
 * const [result] = interpreter.run(new Map([[x, tf.tensor(data, shape, 'float32')]]));
 */
export class GraphInterpreter {
  private constructor(
    private readonly tf: Tfjs,
    private readonly steps: readonly Step[],
    private readonly constants: ReadonlyMap<Value, TfTensor>,
    private readonly outputs: readonly Value[],
  ) {}

  /**
   * Prepares the nodes on which `outputs` depend and puts their constants on tfjs's backend.
   *
   * @throws {GraphError} that lists every node that tfjs cannot compute.
   */
  static compile(tf: Tfjs, outputs: readonly Value[]): GraphInterpreter {
    const problems: string[] = [];
    const attempt = (compile: () => void) => {
      try {
        compile();
      } catch (error) {
        if (!(error instanceof GraphError)) throw error;
        problems.push(error.message);
      }
    };
    const steps: Step[] = [];
    for (const node of neededNodes(outputs)) attempt(() => steps.push(compileNode(node)));
    const constants = new Map<Value, TfTensor>();
    for (const value of new Set([...steps.flatMap(({ inputs }) => inputs), ...outputs]))
      if (value?.data) attempt(() => constants.set(value, constantTensor(tf, value)));
    if (problems.length > 0) {
      disposeAll(constants.values());
      throw new GraphError(
        `the tfjs engine cannot compute this graph: ${problems.join('; ')}. Train it with the engine 'onnxruntime'`,
      );
    }
    return new GraphInterpreter(tf, steps, constants, outputs);
  }

  /**
   * The values of the outputs. The caller disposes of them and of everything between, with `tf.tidy`.
   *
   * @param feeds a tensor for each input of the graph.
   */
  run(feeds: ReadonlyMap<Value, TfTensor>): TfTensor[] {
    const values = new Map([...this.constants, ...feeds]);
    const find = (value: Value) => {
      const tensor = values.get(value);
      if (tensor) return tensor;
      throw new GraphError(`the input '${value.name}' was not given`);
    };
    for (const { node, inputs, kernel } of this.steps) {
      const result = kernel(
        this.tf,
        inputs.map((input) => input && find(input)),
      );
      const tensors = Array.isArray(result) ? result : [result];
      node.outputs.forEach((output, index) => {
        const tensor = tensors[index];
        if (tensor) values.set(output, tensor);
      });
    }
    return this.outputs.map(find);
  }

  /** Frees the constants. */
  dispose(): void {
    disposeAll(this.constants.values());
  }
}

/**
 * The values that the loss depends on by way of floats: those that have a gradient. What is reached through
 * comparisons and indices only is not among them.
 */
export function differentiableAncestors(loss: Value): Set<Value> {
  const found = new Set<Value>();
  const pending = [loss];
  for (let value = pending.pop(); value; value = pending.pop()) {
    if (found.has(value) || value.dtype !== 'float32') continue;
    found.add(value);
    if (value.producer && !stopsGradient(value.producer)) pending.push(...tensorInputs(value.producer));
  }
  return found;
}

function compileNode(node: GraphNode): Step {
  const op = findTfOp(node);
  if (!op) throw new GraphError(`node '${node.name}' (op ${opName(node)}) has no counterpart`);
  for (const { name, dtype } of node.outputs) tfDType(dtype, `'${name}'`);
  const inputs = node.inputs.slice(0, op.tensorInputs).map((input) => input ?? undefined);
  const kernel = op.compile(node);
  return { node, inputs, kernel: stopsGradient(node) ? stopped(kernel) : kernel };
}

/** A clone, because a tensor that is its own result would have its gradient all the same. */
function stopped(kernel: TfKernel): TfKernel {
  return (tf, inputs) =>
    withoutGradient(
      tf,
      inputs.filter((input) => input !== undefined),
      () => tf.clone(given([kernel(tf, inputs)].flat(), 0)),
    );
}

/** In topological order. */
function neededNodes(outputs: readonly Value[]): GraphNode[] {
  const needed = new Set<GraphNode>();
  const pending = outputs.flatMap(({ producer }) => producer ?? []);
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (needed.has(node)) continue;
    needed.add(node);
    pending.push(...tensorInputs(node).flatMap(({ producer }) => producer ?? []));
  }
  return outputs[0]?.graph.nodes.filter((node) => needed.has(node)) ?? [];
}

function tensorInputs(node: GraphNode): Value[] {
  const count = findTfOp(node)?.tensorInputs;
  return node.inputs.slice(0, count).filter((input): input is Value => input !== null);
}
