import { GraphError, OnnxFormatError } from '../../errors.ts';
import { Graph } from '../graph.ts';
import '../ops/index.ts';
import { type Dim, formatShape } from '../types.ts';
import { lowerProgram } from './lowering/lower.ts';
import { isValue, type Operand } from './lowering/operand.ts';
import { decodeOnnx, type GraphProto, type OnnxProgram } from './schema.ts';
import { readTensor, readType } from './tensors.ts';

/** From an input's name and its shape in the file to the shape it shall have. */
export type InputShapes = (name: string, declared: readonly Dim[]) => readonly Dim[];

/** Options of `readOnnx`. */
export interface ReadOnnxOptions {
  /**
   * Fixes the lengths of symbolic axes, which shape inference cannot always follow. Must agree with the file's shape in
   * rank and in every fixed length; default: the file's shapes.
   */
  readonly inputShapes?: InputShapes | undefined;
}

/**
 * Reads an ONNX model as a `Graph`, on which gradients can be built. Shapes and dtypes are inferred anew. Nodes that do not
 * depend on the inputs are computed, those of the operator sets 9 to 21 are translated to ours, and float16 becomes float32.
 *
 * @throws {OnnxFormatError} when the bytes are not an ONNX model, are damaged, contradict themselves, keep tensors in
 * other files, or use an operator set or ops that are not supported (one error names all of them).
 * @example
 * const graph = readOnnx(await readFile('model.onnx'));
 * const [output] = graph.outputs;
 */
export function readOnnx(bytes: Uint8Array, options: ReadOnnxOptions = {}): Graph {
  const program = decodeOnnx(bytes);
  try {
    return readGraph(program, options.inputShapes ?? ((_name, declared) => declared));
  } catch (cause) {
    if (!(cause instanceof GraphError)) throw cause;
    throw new OnnxFormatError(`the ONNX model contradicts itself: ${cause.message}`, { cause });
  }
}

function readGraph(program: OnnxProgram, inputShapes: InputShapes): Graph {
  const proto = program.graph;
  const graph = new Graph(proto.name || 'graph');
  const outputs = (proto.output ?? []).map(({ name = '' }) => name);
  if (outputs.length === 0) throw new OnnxFormatError('the ONNX model has no outputs');
  graph.reserveNames(outputs);
  const known = new Map<string, Operand>();
  for (const tensor of proto.initializer ?? []) {
    const name = requireName(tensor.name, 'an initializer', known);
    const { dtype, shape, data } = readTensor(tensor, `initializer '${name}'`);
    known.set(name, graph.constant(dtype, shape, data, name));
  }
  for (const { name, dtype, shape } of declaredInputs(proto)) {
    requireName(name, 'an input', known);
    const type = dtype === 'float16' ? 'float32' : dtype;
    known.set(name, graph.input(name, type, fixShape(shape, inputShapes(name, shape), name)));
  }
  const lowered = lowerProgram(program, graph, known, outputs);
  outputs.forEach((name, index) => {
    const operand = lowered.outputs[index];
    if (!operand) return;
    const value = isValue(operand) ? operand : graph.constant(operand.dtype, operand.shape, operand.data);
    graph.output(name, value);
  });
  return graph;
}

/** The inputs that have to be fed: before IR version 4 initializers had to be listed among them. */
export function declaredInputs(proto: GraphProto) {
  const initializers = new Set((proto.initializer ?? []).map(({ name }) => name));
  return (proto.input ?? [])
    .filter(({ name }) => !initializers.has(name))
    .map((info) => {
      const name = requireName(info.name, 'an input', new Map());
      return { name, ...readType(info, name) };
    });
}

function fixShape(declared: readonly Dim[], wanted: readonly Dim[], name: string): readonly Dim[] {
  const agrees =
    declared.length === wanted.length && declared.every((dim, axis) => typeof dim === 'string' || dim === wanted[axis]);
  if (agrees) return wanted;
  throw new OnnxFormatError(
    `the input '${name}' is ${formatShape(declared)} in the ONNX model, which does not allow ${formatShape(wanted)}`,
  );
}

function requireName(name: string | undefined, what: string, known: ReadonlyMap<string, unknown>): string {
  if (!name) throw new OnnxFormatError(`${what} of the ONNX model has no name`);
  if (known.has(name)) throw new OnnxFormatError(`the ONNX model defines '${name}' twice`);
  return name;
}
