import { OnnxFormatError } from '../errors.ts';
import type { OnnxProgram } from '../graph/onnx/decode.ts';
import type { KnownTensor } from '../graph/onnx/lowering/operand.ts';
import { type ExternalBytes, readTensor, tensorHeader } from '../graph/onnx/tensors.ts';
import { type DType, elementCount } from '../graph/types.ts';

/** A tensor that is trained. */
interface Weight {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * The initializers of a file by name: those that are trained, and all others.
 *
 * @param isTrained see `OnnxModelOptions.trainable`.
 * @throws {OnnxFormatError} when one has no name, the name of another, or no data that fit it.
 */
export function readInitializers(
  program: OnnxProgram,
  external: ExternalBytes,
  isTrained: (name: string, shape: readonly number[]) => boolean = isUsualWeight(program),
): { trained: Map<string, Weight>; frozen: Map<string, KnownTensor> } {
  const used = usedNames(program);
  const trained = new Map<string, Weight>();
  const frozen = new Map<string, KnownTensor>();
  for (const [name, tensor] of allTensors(program, external)) {
    const { shape, data } = tensor;
    if (data instanceof Float32Array && used.has(name) && isTrained(name, shape))
      trained.set(name, { shape, data });
    else frozen.set(name, tensor);
  }
  return { trained, frozen };
}

/** The types of all initializers in the file, where float16 is not read as float32 yet. */
export function storedTypes({ graph }: OnnxProgram): Map<string, DType> {
  return new Map(
    (graph.initializer ?? []).map((tensor) => [
      tensor.name ?? '',
      tensorHeader(tensor, 'an initializer').dtype,
    ]),
  );
}

function allTensors({ graph }: OnnxProgram, external: ExternalBytes): Map<string, KnownTensor> {
  const tensors = new Map<string, KnownTensor>();
  for (const tensor of graph.initializer ?? []) {
    const name = tensor.name ?? '';
    if (name === '' || tensors.has(name))
      throw new OnnxFormatError(
        `the ONNX model has an initializer without a name, or defines '${name}' twice`,
      );
    tensors.set(name, readTensor(tensor, `initializer '${name}'`, external));
  }
  return tensors;
}

/** Names that nodes use. */
function usedNames({ graph }: OnnxProgram): Set<string> {
  const names = new Set<string>();
  const visit = (nodes: typeof graph.node = []) => {
    for (const { input = [], attribute = [] } of nodes) {
      for (const name of input) names.add(name);
      for (const { g } of attribute) visit(g?.node);
    }
  };
  visit(graph.node);
  return names;
}

/** All but scalars, tables of constants, and running statistics. */
function isUsualWeight(program: OnnxProgram): (name: string, shape: readonly number[]) => boolean {
  const statistics = runningStatistics(program);
  return (name, shape) =>
    shape.length > 0 &&
    elementCount(shape) > 0 &&
    // Unnamed constants, such as tables of frequencies, are called so by exporters.
    !/constant/i.test(name) &&
    !statistics.has(name);
}

/** Names of means and variances that BatchNormalization has kept from its training. */
function runningStatistics({ graph }: OnnxProgram): Set<string> {
  const nodes = (graph.node ?? []).filter(({ opType }) => opType === 'BatchNormalization');
  return new Set(nodes.flatMap(({ input = [] }) => input.slice(3, 5)));
}
